# The local cluster of the quickstart: two routers and two workers in two regions, as ordinary processes whose pids and logs lie in
# .run/. Sourced after lib.sh, never run.

NORTH_HTTP=127.0.0.1:8080 NORTH_ZMQ=tcp://127.0.0.1:7700
SOUTH_HTTP=127.0.0.1:8081 SOUTH_ZMQ=tcp://127.0.0.1:7701
CLUSTER_PROCESSES="north-r1 south-r1 north-w1 south-w1"
CLUSTER_CONFIG=deploy/local/cluster.yaml

running() { # running <name>: is it alive, and ours?
  local pid
  pid=$(cat ".run/$1.pid" 2>/dev/null) && [ -n "$pid" ] && [ -r "/proc/$pid/cmdline" ] && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q -- "--name $1 "
}

launch() { # launch <name> <program> <arguments…>
  local name=$1
  shift
  # From a subshell, so that this shell says nothing when the demo kills one.
  (setsid "$@" </dev/null >/dev/null 2>".run/$name.log" & echo $! >".run/$name.pid")
}

start_process() {
  case "$1" in
    north-r1) launch $1 build/bin/shoal-router --name $1 --config $CLUSTER_CONFIG --region north --http $NORTH_HTTP --zmq $NORTH_ZMQ --peer $SOUTH_ZMQ --admin unix:$ROOT/.run/$1.sock ;;
    south-r1) launch $1 build/bin/shoal-router --name $1 --config $CLUSTER_CONFIG --region south --http $SOUTH_HTTP --zmq $SOUTH_ZMQ --peer $NORTH_ZMQ --admin unix:$ROOT/.run/$1.sock ;;
    north-w1) launch $1 build/bin/shoal-worker --name $1 --config $CLUSTER_CONFIG --region north --router $NORTH_ZMQ --model tiny --device cpu --threads 1 --step-min-ms 20 --admin unix:$ROOT/.run/$1.sock ;;
    south-w1) launch $1 build/bin/shoal-worker --name $1 --config $CLUSTER_CONFIG --region south --router $SOUTH_ZMQ --model tiny --device cpu --threads 1 --step-min-ms 20 --admin unix:$ROOT/.run/$1.sock ;;
  esac
}

port_busy() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

cluster_start() {
  local p name
  mkdir -p .run
  for name in $CLUSTER_PROCESSES; do
    running $name && { echo "  an earlier cluster is running: stopping it"; cluster_stop; break; }
  done
  for p in 8080 8081 7700 7701; do
    port_busy $p && die "Port $p on 127.0.0.1 is taken by another program: stop that one first, the quickstart uses 8080, 8081, 7700 and 7701."
  done
  for name in $CLUSTER_PROCESSES; do start_process $name; done
  wait_ready "$NORTH_HTTP" && wait_ready "$SOUTH_HTTP"
}

wait_ready() { # until the router says it can serve
  local end=$((SECONDS + 60)) name
  while ! curl -fs -o /dev/null --max-time 2 "http://$1/readyz"; do
    for name in $CLUSTER_PROCESSES; do
      running $name || { tail -n 3 ".run/$name.log" >&2; die "$name ended at once; its last words are above, all of them in .run/$name.log"; }
    done
    [ $SECONDS -lt $end ] || die "The router at $1 is not ready after 60 s: $(curl -s --max-time 2 "http://$1/readyz"); see .run/*.log"
    sleep 0.1
  done
}

cluster_restart_dead() {
  local name end=$((SECONDS + 30))
  for name in $CLUSTER_PROCESSES; do
    running $name && continue
    start_process $name
    until grep -q worker_ready ".run/$name.log" || [ $SECONDS -ge $end ]; do sleep 0.1; done
  done
}

cluster_stop() {
  local name end=$((SECONDS + 10))
  for name in $CLUSTER_PROCESSES; do running $name && kill "$(cat .run/$name.pid)" 2>/dev/null; done
  for name in $CLUSTER_PROCESSES; do
    while running $name && [ $SECONDS -lt $end ]; do sleep 0.1; done
    running $name && kill -9 "$(cat .run/$name.pid)" 2>/dev/null
    rm -f ".run/$name.pid"
  done
  return 0
}
