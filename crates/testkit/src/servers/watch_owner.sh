# The owner holds the other end of standard input as long as it lives.
read -r _ || true
stop
