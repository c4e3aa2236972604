# Every user of the server holds a shared lock of $2 as long as it lives.
users=$2 record=$3
while :; do
  flock -x "$users" true
  before=$(stat -c %s "$users")
  sleep 20
  exec 9>>"$users"
  if flock -n -x 9 && [ "$before" = "$(stat -c %s "$users")" ]; then
    grep -qF "$folder" "$record" && rm -f "$record"
    stop
    exit
  fi
  exec 9>&-
done
