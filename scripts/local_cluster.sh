# The local cluster of the quickstart: two routers, two workers and a replica in two stages, in two regions, as ordinary processes whose
# pids, logs and checkpoints lie in .run/. Sourced after lib.sh, never run.

# Whoever sources this may have set any of these before: other addresses, another build, another folder.
: "${RUN:=.run}" "${BIN:=build/bin}" "${CLUSTER_CONFIG:=deploy/local/cluster.yaml}"
: "${NORTH_HTTP:=127.0.0.1:8080}" "${NORTH_ZMQ:=tcp://127.0.0.1:7700}" "${SOUTH_HTTP:=127.0.0.1:8081}" "${SOUTH_ZMQ:=tcp://127.0.0.1:7701}"
: "${GROUP_ZMQ:=tcp://127.0.0.1:7710}" # where stage 1 of south-p dials its leader
: "${WORKER_FLAGS:=--model tiny --device cpu --threads 1}" "${PACE:=--step-min-ms 16}" "${STAGE_PACE:=--step-min-ms 8}"
: "${CLUSTER_MODEL:=tiny}"
CLUSTER_ROUTERS="north-r1 south-r1"
CLUSTER_REPLICAS="north-w1 south-w1 south-p"
CLUSTER_PROCESSES="$CLUSTER_ROUTERS $CLUSTER_REPLICAS south-p-stage1"

running() { # running <name>: is it alive, and ours?
  local pid
  pid=$(cat "$RUN/$1.pid" 2>/dev/null) && [ -n "$pid" ] && [ -r "/proc/$pid/cmdline" ] && tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q -- "--name $1 "
}

launch() { # launch <name> <program> <arguments…>
  local name=$1
  shift
  # From a subshell, so that this shell says nothing when the demo kills one.
  (setsid "$@" </dev/null >/dev/null 2>"$RUN/$name.log" & echo $! >"$RUN/$name.pid")
}

start_process() {
  local common="--name $1 --config $CLUSTER_CONFIG --admin unix:$(cd "$RUN" && pwd)/$1.sock"
  # Every worker dials both routers: what runs goes on where it is when one of them dies. What can't end at once moves when a worker leaves.
  local worker="$common $WORKER_FLAGS --drain-deadline 200ms --checkpoint-dir $RUN/checkpoints"
  local dial="--router $NORTH_ZMQ --router $SOUTH_ZMQ" group="--parallel pp=2 --group south-p $STAGE_PACE"
  # shellcheck disable=SC2086
  case "$1" in
    north-r1) launch $1 $BIN/shoal-router $common --region north --http $NORTH_HTTP --zmq $NORTH_ZMQ --peer $SOUTH_ZMQ ;;
    south-r1) launch $1 $BIN/shoal-router $common --region south --http $SOUTH_HTTP --zmq $SOUTH_ZMQ --peer $NORTH_ZMQ ;;
    north-w1) launch $1 $BIN/shoal-worker $worker --region north $dial $PACE ;;
    south-w1) launch $1 $BIN/shoal-worker $worker --region south $dial $PACE ;;
    south-p) launch $1 $BIN/shoal-worker $worker --region south $dial $group --group-listen $GROUP_ZMQ ;;
    south-p-stage1) launch $1 $BIN/shoal-worker $worker --region south $group --stage 1 --leader $GROUP_ZMQ ;;
  esac
}

http_of() { case "$1" in north-*) echo "$NORTH_HTTP" ;; *) echo "$SOUTH_HTTP" ;; esac; }

port_busy() { (exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null; }

cluster_start() {
  local p name
  mkdir -p "$RUN"
  for name in $CLUSTER_PROCESSES; do
    running $name && { echo "  an earlier cluster is running: stopping it"; cluster_stop; break; }
  done
  for p in $NORTH_HTTP $SOUTH_HTTP ${NORTH_ZMQ#tcp://} ${SOUTH_ZMQ#tcp://} ${GROUP_ZMQ#tcp://}; do
    port_busy $p && die "$p is taken by another program: stop that one first, the local cluster uses ports 8080, 8081, 7700, 7701 and 7710 of 127.0.0.1."
  done
  for name in $CLUSTER_PROCESSES; do start_process $name; done
  wait_ready "$NORTH_HTTP" && wait_ready "$SOUTH_HTTP" && wait_mesh
}

wait_ready() { # until the router says it can serve
  local end=$((SECONDS + 60)) name
  while ! curl -fs -o /dev/null --max-time 2 "http://$1/readyz"; do
    for name in $CLUSTER_PROCESSES; do
      running $name || { tail -n 3 "$RUN/$name.log" >&2; die "$name ended at once; its last words are above, all of them in $RUN/$name.log"; }
    done
    [ $SECONDS -lt $end ] || die "The router at $1 is not ready after 60 s: $(curl -s --max-time 2 "http://$1/readyz"); see $RUN/*.log"
    sleep 0.1
  done
}

cluster_restart_dead() {
  local name
  for name in $CLUSTER_PROCESSES; do running $name || start_process $name; done
  wait_mesh
}

reaches() { # reaches <router> <worker>: does an answer of that worker come through that router?
  curl -fs -o /dev/null --max-time 5 "http://$(http_of $1)/v1/completions" -H 'Content-Type: application/json' -H "X-Shoal-Replica: $2" \
    -d "{\"model\":\"$CLUSTER_MODEL\",\"prompt\":\"1\",\"max_tokens\":1}"
}

wait_mesh() { # until every router reaches every worker
  local end=$((SECONDS + 120)) r w
  for r in $CLUSTER_ROUTERS; do
    for w in $CLUSTER_REPLICAS; do
      until reaches $r $w; do
        [ $SECONDS -lt $end ] || die "$w is not served through $r after 120 s: see $RUN/$w.log and $RUN/$r.log"
        sleep 0.1
      done
    done
  done
}

# restart_process <name>: asks it to leave, waits until it has left in order, starts it again and waits until it serves.
restart_process() {
  local name=$1 begin=$SECONDS end=$((SECONDS + 120))
  running $name || die "$name does not run; start the cluster with ./scripts/quickstart --keep"
  kill "$(cat "$RUN/$name.pid")"
  while running $name; do
    [ $SECONDS -lt $end ] || die "$name has not left after 120 s: see $RUN/$name.log"
    sleep 0.1
  done
  grep -qE "(router|worker|stage)_stopped.*( exit=0|$name\$)" "$RUN/$name.log" || die "$name did not leave in order: see $RUN/$name.log"
  start_process $name
  wait_mesh
  printf '  %-10s left and serves again after %d s (pid %s)\n' $name $((SECONDS - begin)) "$(cat "$RUN/$name.pid")"
}

cluster_stop() {
  local name end=$((SECONDS + 10))
  for name in $CLUSTER_PROCESSES; do running $name && kill "$(cat $RUN/$name.pid)" 2>/dev/null; done
  for name in $CLUSTER_PROCESSES; do
    while running $name && [ $SECONDS -lt $end ]; do sleep 0.1; done
    running $name && kill -9 "$(cat $RUN/$name.pid)" 2>/dev/null
    rm -f "$RUN/$name.pid"
  done
  return 0
}
