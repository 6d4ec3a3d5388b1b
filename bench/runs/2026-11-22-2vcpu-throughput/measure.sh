G=${GLMEVAL:-glmeval}
cd "$(dirname "$0")"
run() { # n workers
 rm -rf store; mkdir store
 $G coordinator --listen 127.0.0.1:7171 --store store >c.log 2>&1 & C=$!
 for i in $(seq 50); do grep -q "listens on" c.log && break; sleep 0.1; done
 $G submit job.toml --coordinator 127.0.0.1:7171 >/dev/null 2>&1
 s=$(date +%s.%N)
 W=""
 for i in $(seq $1); do RUST_LOG=glmeval_worker=debug taskset -c $((i-1)) $G worker --coordinator 127.0.0.1:7171 --store store --threads 1 --until-idle > w$1_$i.log 2>&1 & W="$W $!"; done
 wait $W
 e=$(date +%s.%N)
 echo "$1 workers: $(echo "$e - $s" | bc) s"
 ps -o cputimes= -p $C
 kill $C; wait $C 2>/dev/null
}
run 1; run 2
