#!/usr/bin/env bash
# Starts the stack of compose.yaml, waits until every part of it is healthy, and says where it is.
# Arguments go to `docker compose up`: scripts/run.sh --scale grafana=0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

docker compose up --detach --wait "$@"

at() {
  local address
  # a service that was left out has no address
  address=$(docker compose port "$1" "$2" 2>/dev/null) && [ -n "$address" ] && printf '  %-10s %s\n' "$1" "$3$address$4"
  return 0
}
echo "It runs:"
at console 8080 http:// "/?token=${CONSOLE_TOKEN:-clickstream-console}"
at adminer 8080 http:// "/?pgsql=postgres&username=postgres&db=analytics&ns=clickstream"
at grafana 3000 http:// ""
at prometheus 9090 http:// ""
at postgres 5432 postgresql://postgres@ /analytics
at kafka 9094 "" ""
echo "Users and passwords: .env.example. To stop it: scripts/stop.sh"
