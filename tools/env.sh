# Sourced, not run (bash): the environment of the built package.
#
#   source tools/env.sh
#
# An installed ROS 2 (sourced already, or found under /opt/ros), else the wheels in .venv; then the
# checkout's install space. `make build` makes what is missing.

_flashwam_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
_flashwam_venv="${FLASHWAM_VENV:-$_flashwam_root/.venv}"

if [ -z "${ROS_DISTRO:-}" ]; then
  for _flashwam_distro in kilted jazzy humble; do
    if [ -f "/opt/ros/$_flashwam_distro/setup.bash" ]; then
      source "/opt/ros/$_flashwam_distro/setup.bash"
      break
    fi
  done
fi
if [ -f "$_flashwam_venv/bin/activate" ]; then
  source "$_flashwam_venv/bin/activate"
fi
if [ -z "${ROS_DISTRO:-}" ]; then
  # The wheels are a prefix like /opt/ros/<distro>, without its setup file.
  case ":${AMENT_PREFIX_PATH:-}:" in
    *":$_flashwam_venv:"*) ;;
    *)
      export AMENT_PREFIX_PATH="$_flashwam_venv${AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}"
      export CMAKE_PREFIX_PATH="$_flashwam_venv${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}"
      ;;
  esac
fi
if [ -f "$_flashwam_root/install/setup.bash" ]; then
  source "$_flashwam_root/install/setup.bash"
fi
if [ -z "${FASTDDS_DEFAULT_PROFILES_FILE:-}${FASTRTPS_DEFAULT_PROFILES_FILE:-}" ]; then
  # Humble and Jazzy read the older name, which later releases warn about.
  case "${ROS_DISTRO:-}" in
    humble | jazzy) export FASTRTPS_DEFAULT_PROFILES_FILE="$_flashwam_root/config/fastdds.xml" ;;
    *) export FASTDDS_DEFAULT_PROFILES_FILE="$_flashwam_root/config/fastdds.xml" ;;
  esac
fi
unset _flashwam_root _flashwam_venv _flashwam_distro
