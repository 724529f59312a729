#!/usr/bin/env bash
# Stops the stack of compose.yaml. Its data stays for the next start; scripts/stop.sh --volumes removes that too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# of the image's own small volumes for settings nothing is worth keeping, but only --volumes removes them
docker compose down --remove-orphans "$@"
