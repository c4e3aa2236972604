#!/usr/bin/env bash
# Asks every service of the platform how it is, one line each; exits with 1 when one is down. Safe to run at any time.
#
# What is asked is what the engine asks, but now: for ours that is whether they are ready, so that a line says which backend is missing.
# COMPOSE_FILE and COMPOSE_PROJECT_NAME choose the platform, as everywhere with compose.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

command -v docker >/dev/null || {
  echo "health_check: docker is missing" >&2
  exit 2
}
services=$(docker compose config --services) || exit 2

down=0
# tell SERVICE STATUS DETAIL
tell() {
  printf '%-26s %-6s %s\n' "$1" "$2" "${3//$'\n'/ }"
  [ "$2" = up ] || down=1
}

# ask CONTAINER: runs its health check; what it prints says why it fails.
ask() {
  local check
  mapfile -t check < <(docker inspect --format '{{with .Config.Healthcheck}}{{range .Test}}{{println .}}{{end}}{{end}}' "$1")
  unset "check[-1]"
  case ${check[0]:-} in
    CMD) timeout 20 docker exec "$1" "${check[@]:1}" 2>&1 </dev/null ;;
    CMD-SHELL) timeout 20 docker exec "$1" sh -c "${check[1]}" 2>&1 </dev/null ;;
    *) echo "it has no health check" ;;
  esac
}

while read -r service; do
  mapfile -t containers < <(docker compose ps --all --quiet "$service")
  well=0
  said=""
  for container in "${containers[@]}"; do
    state=$(docker inspect --format '{{.State.Status}} (exit code {{.State.ExitCode}}){{if .State.OOMKilled}}, out of memory{{end}}' "$container")
    if [[ $state != running* ]]; then
      said="$state"
    elif answer=$(ask "$container"); then
      well=$((well + 1))
    else
      said="${answer:-its health check fails}"
    fi
  done
  if [ ${#containers[@]} -eq 0 ]; then
    tell "$service" down "is not started"
  elif [ "$well" -eq ${#containers[@]} ]; then
    tell "$service" up "$well of ${#containers[@]}"
  else
    tell "$service" down "$well of ${#containers[@]}: ${said:0:300}"
  fi
done < <(sort <<<"$services")

# The door, from outside: each port on which a copy of the orchestrator is published.
ports=$(docker compose ps --format '{{.Service}} {{.Ports}}' | sed -n 's/^agent-orchestrator //p' | grep -oE '[0-9.]+:[0-9]+->8003' | sed 's/->.*//; s/^0\.0\.0\.0/127.0.0.1/')
for port in $ports; do
  if answer=$(curl --silent --show-error --fail --max-time 10 "http://$port/health/ready" 2>&1); then
    tell "http://$port" up ""
  else
    tell "http://$port" down "$answer"
  fi
done
exit "$down"
