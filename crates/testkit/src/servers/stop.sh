# Ends the groups of processes that $1/groups names, each with its signal, and removes the folder $1.
folder=$1
stop() {
  while read -r signal group; do
    kill -s CONT -- "-$group"
    kill -s "$signal" -- "-$group"
    tries=0
    while kill -s 0 -- "-$group" && [ "$tries" -lt 50 ]; do
      tries=$((tries + 1))
      sleep 0.1
    done
    kill -s KILL -- "-$group"
  done <"$folder/groups" 2>/dev/null
  rm -rf "$folder"
}
