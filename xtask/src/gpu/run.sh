#!/bin/bash
# Proves and measures glmeval's CUDA kernels on this machine: a driver, CUDA's libraries (a toolkit, or Python's wheels) and, for
# the comparison, PyTorch.
#
#   bash run.sh [WORD...]       each word takes 570 seconds at most (SECONDS_MAX); usually about
#
#   parity      5 minutes       what can be wrong: opens the device, doctor, the device's check of itself, then tests of the device
#                               and its library of products, of kernels, gLMs, probes and the worker
#   sanitizer   9 minutes       compute-sanitizer's memcheck and racecheck, over tests of kernels
#   ours        4 minutes       how fast kernels and training steps are
#   peers       5 minutes       how fast PyTorch is on the same shapes
#   again       4 minutes       ours once more, and the table of all three; reads what `ours` and `peers` left
#   cpu         3 minutes       what needs no GPU: gLMs and probes on the CPU, the benchmark's programs on tiny shapes
#   all        30 minutes       all of these, in this order; what is done if no word is given
#
# What steps print lies in RESULTS (default: results, beside this script). After each step OUT (default: this script's folder) has
# all of it in results.tgz, and summary.txt with a line for each step: name, exit code, seconds, tests. A step that was cut off by
# its time, or not begun for want of it, is "unfinished". Tests that fail are run again alone, as one that breaks a device takes
# all tests behind it along. Fixtures and peers come from REPOSITORY, else from the folder `repository` beside this script, else
# from the current folder, if that is a checkout.
#
# Ends with 0 if every step passed, 1 if one failed or is unfinished, 2 for a word it does not know or without fixtures, 3 if no
# GPU can be used: it then says what is missing and does `cpu`.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
SECONDS_MAX=${SECONDS_MAX:-570}
python=${PYTHON:-python3}
failed=0

# Tests that only concern the emulator, and where they are.
emulated_only=(
    cuda::tests::a_missing_barrier_is_found  # kernels/src/cuda/tests.rs
    cuda::tests::a_write_past_an_array_is_found  # kernels/src/cuda/tests.rs
    cuda::tests::copies_land_when_they_are_waited_for  # kernels/src/cuda/tests.rs
    cuda::tests::a_thread_that_never_comes_to_a_barrier_is_found  # kernels/src/cuda/tests.rs
    cuda::tests::blocks_that_write_one_value_are_found  # kernels/src/cuda/tests.rs
    cuda::tests::a_block_that_writes_what_another_reads_is_found  # kernels/src/cuda/tests.rs
    cuda::tests::a_product_adds_bias_and_what_was_there  # kernels/src/cuda/tests.rs
    cuda::tests::memory_is_bounded_and_serves_again  # kernels/src/cuda/tests.rs
    cuda::product::tests::the_emulator_reads_ten_bits  # kernels/src/cuda/product/tests.rs
    ops::attention::cuda::table::tests::a_sequence_is_in_the_list_of_its_length  # kernels/src/ops/attention/cuda/table.rs
    ops::attention::cuda::table::tests::a_table_takes_other_sequences  # kernels/src/ops/attention/cuda/table.rs
    rate::tests::a_device_multiplies_in_each_precision  # worker/src/rate.rs
    device::tests::each_device_computes_in_classes_of_its_own  # worker/src/device.rs
    fit::tests::devices::emulated  # worker/src/fit/tests/devices.rs
)
skips=()
for name in "${emulated_only[@]}"; do
    skips+=(--skip "$name")
done
# Failed tests of a step that are run again alone, and seconds for each.
ALONE_MAX=20
ALONE_SECONDS=60

words=()
[ $# -gt 0 ] || set -- all
for word in "$@"; do
    case $word in
        all) words+=(parity sanitizer ours peers again cpu) ;;
        parity | sanitizer | ours | peers | again | cpu) words+=("$word") ;;
        *)
            echo "run.sh: expected parity, sanitizer, ours, peers, again, cpu or all, found $word" >&2
            exit 2
            ;;
    esac
done
find_repository() {
    local folder
    for folder in "${REPOSITORY:-$here/repository}" "${REPOSITORY:-$PWD}"; do
        if [ -d "$folder/tests/golden/models" ]; then
            (cd "$folder" && pwd)
            return
        fi
    done
    echo "run.sh: expected tests/golden/models in ${REPOSITORY:-$here/repository or $PWD}; REPOSITORY names a checkout" >&2
    return 1
}
repository=$(find_repository) || exit 2
results=${RESULTS:-$here/results}
out=${OUT:-$here}
mkdir -p "$results" "$out" || exit 1
results=$(cd "$results" && pwd)
out=$(cd "$out" && pwd)
cd "$here" || exit 1

say() { printf '\n== %s\n' "$*"; }
# Writes a line of the summary, and puts all that is known where it is taken from.
told() {
    echo "$*" >> "$results/summary.txt"
    cp "$results/summary.txt" "$out/summary.txt.part" && mv "$out/summary.txt.part" "$out/summary.txt"
    tar -czf "$out/results.tgz.part" --exclude './results.tgz*' --exclude './*.part' -C "$results" . &&
        mv "$out/results.tgz.part" "$out/results.tgz"
}
# Seconds that a step may take: $1, or what is left of its word; 0 if that is too little to begin.
allowed() {
    local left=$((word_end - SECONDS))
    [ "$left" -ge 5 ] || left=0
    echo $(($1 < left ? $1 : left))
}
# Runs a command that may take $2 seconds, and adds what it prints to what step $1 printed.
limited() {
    local log=$results/$1.txt seconds
    seconds=$(allowed "$2")
    shift 2
    if [ "$seconds" -eq 0 ]; then
        echo "not begun: the word's $SECONDS_MAX seconds are over" | tee -a "$log"
        return 124
    fi
    timeout -k 10 "$seconds" "$@" < /dev/null 2>&1 | tee -a "$log"
    return "${PIPESTATUS[0]}"
}
# Tells how step $1 ended: exit code, seconds, and what else there is to say.
ended() {
    local name=$1 code=$2 seconds=$3 state=passed
    shift 3
    case $code in
        0) ;;
        124 | 137) state=unfinished ;;
        *) state=FAILED ;;
    esac
    [ "$code" -eq 0 ] || failed=1
    told "$(printf '%-24s %-10s %3d %4d s  %s' "$name" "$state" "$code" "$seconds" "$*")"
    say "$name $state with $code after $seconds s${*:+: $*}"
}
# A step: its name, its seconds, its command. It goes on when one fails: one run should tell as much as it can.
step() {
    local name=$1 begin=$SECONDS code
    say "$*"
    : > "$results/$name.txt"
    limited "$@"
    code=$?
    ended "$name" "$code" $((SECONDS - begin)) "$(counts "$name" | sed 's/,$//')"
    return "$code"
}
skipped() { told "$(printf '%-24s %-10s          %s' "$1" skipped "$2")" && say "$1 skipped: $2"; }

# Each test that step $1 began, in the order of its last round: passed, failed or unfinished, and its name. A test's own words may
# stand between its name and its result.
outcomes() {
    awk '
        function settle(state) { if (now != "") { states[now] = state; now = "" } }
        /^test [^ ]+( - should panic)? \.\.\. / {
            settle("passed")
            now = $2
            if (now in place) delete names[place[now]]
            place[now] = ++count
            names[count] = now
            sub(/^test [^ ]+( - should panic)? \.\.\. /, "")
        }
        /^ok$/ { settle("passed") }
        /^ignored/ { settle("ignored") }
        /FAILED$/ { settle("failed") }
        /^failures:$/ { settle("passed"); listing = 1 }
        /^test result:/ { settle("passed"); listing = 0 }
        listing && /^    [A-Za-z0-9_:]+$/ { if ($1 in place) states[$1] = "failed" }
        /^== round/ { settle("unfinished"); listing = 0 }
        END {
            settle("unfinished")
            for (i = 1; i <= count; i++) if (i in names) print states[names[i]], names[i]
        }' "$results/$1.txt"
}
# Whether the last round of step $1 came to its end.
is_complete() {
    awk '/^test result:/ { found = 1 } /^== round/ { whole = found; found = 0 } END { exit !whole }' "$results/$1.txt"
}
# How many tests of step $1 passed and did not; nothing if it has none.
counts() {
    outcomes "$1" | awk '{ n[$1]++ } END { if (NR) printf "passed %d, failed %d, unfinished %d,", n["passed"], n["failed"], n["unfinished"] }'
}
# Names of step $1 with outcome $2.
having() { outcomes "$1" | awk -v state="$2" '$1 == state { print $2 }'; }
# Lines of the first list that the second has not.
without() { awk 'NR == FNR { known[$0]; next } NF && !($0 in known)' <(printf '%s\n' "$2") <(printf '%s\n' "$1"); }

# A step of tests: name, seconds, program, and which of its tests. What a test that ended the process, or broke the device, kept
# from its say is run in a process of its own.
threads=1
tests() {
    local name=$1 seconds=$2 program=$3 begin=$SECONDS code=0 last rest=() culprits="" bad round all unbegun
    shift 3
    say "$name: $program $*"
    : > "$results/$name.txt"
    all=$(timeout 30 "$program" --list --format terse "$@" 2>/dev/null | sed -n 's/: test$//p')
    for round in 1 2 3; do
        if [ "$round" -eq 1 ]; then
            limited "$name" "$seconds" "$program" --test-threads "$threads" --nocapture "$@"
        else
            limited "$name" "$seconds" "$program" --test-threads "$threads" --nocapture --exact "${rest[@]}"
        fi
        last=$?
        [ "$code" -ne 0 ] || code=$last
        printf '\n== round %d of %s ended with %d\n' "$round" "$name" "$last" >> "$results/$name.txt"
        if is_complete "$name"; then
            bad=$(without "$(having "$name" failed)" "$culprits")
            [ "$(grep -c . <<< "$bad")" -gt "$ALONE_MAX" ] || break
            culprits+=$'\n'$(head -n 1 <<< "$bad")
            mapfile -t rest < <(tail -n +2 <<< "$bad")
        else
            mapfile -t rest < <(without "$all" "$(outcomes "$name" | cut -d ' ' -f 2)")
            [ ${#rest[@]} -gt 0 ] || break
        fi
        [ "$(allowed "$seconds")" -gt 0 ] || break
    done
    unbegun=$(without "$all" "$(outcomes "$name" | cut -d ' ' -f 2)" | grep -c .)
    if [ "$code" -eq 0 ] && [ "$(counts "$name")" = "" ]; then
        echo "expected tests, found none" | tee -a "$results/$name.txt"
        code=1
    fi
    ended "$name" "$code" $((SECONDS - begin)) "$(counts "$name") not begun $unbegun"
    again_alone "$name" "$program"
}
# Runs what failed in step $1 once more, each test in a process of its own.
again_alone() {
    local name=$1 program=$2 test code bad
    bad=$(having "$name" failed && having "$name" unfinished)
    [ -n "$bad" ] || return 0
    : > "$results/$name-alone.txt"
    for test in $(head -n "$ALONE_MAX" <<< "$bad"); do
        if [ "$(allowed "$ALONE_SECONDS")" -eq 0 ]; then
            told "    not run alone         $test"
            continue
        fi
        limited "$name-alone" "$ALONE_SECONDS" "$program" --test-threads 1 --nocapture --exact "$test"
        code=$?
        case $code in
            0) told "    passes alone          $test" ;;
            124 | 137) told "    unfinished alone      $test" ;;
            *) told "    FAILS ALONE with $code  $test" ;;
        esac
    done
    for test in $(tail -n +$((ALONE_MAX + 1)) <<< "$bad"); do
        told "    not run alone         $test"
    done
}

# Tests know their fixtures by the path they were compiled at.
lead_to_fixtures() {
    local root
    root=$(cat root)
    if [ -d "$root/tests/golden/models" ] && [ ! -L "$root" ]; then
        return
    fi
    mkdir -p "$(dirname "$root")" && ln -sfn "$repository" "$root" || say "fixtures cannot be put at $root"
}
# NVRTC and cuBLASLt from Python's wheels, unless a toolkit has them already.
find_libraries() {
    local wheels
    wheels=$(timeout 30 "$python" - <<'PY' 2>/dev/null
import glob, os, site, sys
folders = site.getsitepackages() + [site.getusersitepackages()] + sys.path
found = []
for folder in folders:
    found += glob.glob(os.path.join(folder, "nvidia", "*", "lib"))
print(":".join(dict.fromkeys(found)))
PY
    )
    export LD_LIBRARY_PATH="${wheels:+$wheels:}/usr/local/cuda/lib64:/usr/local/nvidia/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
}

# Says what of a bare machine is there; whether the GPU can be used is asked of our own program.
any_library() {
    local name
    for name in "$@"; do
        if timeout 30 "$python" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$name" 2>/dev/null; then
            echo "found    $name"
            return
        fi
    done
    echo "missing  $1"
}
has_torch() { timeout 90 "$python" -c "import torch; assert ${1:-torch.cuda.is_available()}" 2>/dev/null; }
preflight() {
    if command -v "$python" >/dev/null; then echo "found    $python"; else
        echo "missing  $python: no libraries from its wheels, no peers, no table"
    fi
    any_library libcuda.so.1
    any_library libnvrtc.so.13 libnvrtc.so.12
    any_library libcublasLt.so.13 libcublasLt.so.12
    if command -v nvidia-smi >/dev/null; then
        timeout 20 nvidia-smi
        timeout 20 nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit --format=csv
    else
        echo "missing  nvidia-smi"
    fi
    command -v g++ >/dev/null && echo "found    g++" || echo "missing  g++: no emulator"
    if timeout 30 "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' 2>/dev/null; then
        echo "found    PyTorch"
    else
        echo "missing  PyTorch: no peers"
    fi
}
doctor() {
    if [ -x bin/glmeval ]; then step doctor 60 bin/glmeval doctor; else skipped doctor "this bundle has no glmeval"; fi
}

do_parity() {
    say "operands are drawn with seed $GLMEVAL_TEST_SEED"
    doctor
    step self-check 90 bin/gpu_bench --check
    # One test at a time: each opens the device anew, and a failure names its test.
    tests parity-device 200 bin/kernels-tests cuda:: --skip ops:: "${skips[@]}"
    tests parity-kernels 240 bin/kernels-tests ::cuda:: "${skips[@]}"
    tests parity-models 150 bin/golden-models device
    tests parity-probes 120 bin/golden-networks device
    tests parity-worker 200 bin/worker-tests cuda device "${skips[@]}"
}
do_sanitizer() {
    local sanitizer tool
    sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
    if [ -z "$sanitizer" ]; then
        skipped sanitizer "compute-sanitizer is not here"
        return
    fi
    if ! timeout -k 10 90 "$sanitizer" --tool memcheck --error-exitcode 9 bin/gpu_bench --open > "$results/sanitizer.txt" 2>&1; then
        skipped sanitizer "compute-sanitizer cannot look into this device: $(tail -n 1 "$results/sanitizer.txt")"
        return
    fi
    for tool in memcheck racecheck; do
        step "sanitizer-$tool" 270 "$sanitizer" --tool "$tool" --error-exitcode 9 \
            bin/kernels-tests --test-threads 1 --nocapture ::cuda::tests
    done
}
# Measures every suite in a process of its own, as one that breaks the device takes the rest along; $1 names the rows.
measure() {
    local suite
    for suite in $(timeout 30 bin/gpu_bench --suites); do
        step "$1-$suite" 150 bin/gpu_bench --suite "$suite"
    done
    step "$1-steps" 150 bin/network_rate --device
    for suite in $(timeout 30 bin/gpu_bench --suites) steps; do
        grep -h '^{.*}$' "$results/$1-$suite.txt"
    done > "$results/$1.jsonl"
}
do_ours() { measure ours-first; }
do_peers() {
    if has_torch; then
        step peers 550 "$python" "$repository/bench/peers/gpu.py"
        grep -h '^{.*}$' "$results/peers.txt" > "$results/peers.jsonl"
    else
        skipped peers "no PyTorch that sees the GPU"
    fi
}
do_again() {
    measure ours-again
    step table 30 "$python" table.py "$results"
}
do_cpu() {
    threads=4
    tests cpu-models 240 bin/golden-models --skip device
    tests cpu-probes 120 bin/golden-networks --skip device
    threads=1
    if command -v g++ >/dev/null; then
        step smoke-kernels 150 bin/gpu_bench --smoke --repetitions 1
        step smoke-steps 240 bin/network_rate --smoke
    else
        skipped smoke "missing g++, which the emulator of kernels is compiled with"
    fi
    if has_torch True; then
        step smoke-peers 120 "$python" "$repository/bench/peers/gpu.py" --smoke
    else
        skipped smoke-peers "missing PyTorch"
    fi
}
# Does a word within its time; what was done before the first is of its time.
word_begin=0
do_word() {
    word_end=$((word_begin + SECONDS_MAX))
    "do_$1"
    word_begin=$SECONDS
}

find_libraries
export GLMEVAL_KERNEL_CACHE="$here/kernel-cache"
export GLMEVAL_TEST_SEED=${GLMEVAL_TEST_SEED:-$(date +%s)}
lead_to_fixtures
told "run.sh ${words[*]}: revision $(cat revision 2>/dev/null), seed $GLMEVAL_TEST_SEED, fixtures of $repository"
preflight 2>&1 | tee "$results/preflight.txt"
if [ "${words[*]}" != cpu ]; then
    word_end=$((SECONDS + 120))
    if ! step open 60 bin/gpu_bench --open; then
        doctor
        say "no GPU can be used: $(cat "$results/open.txt")"
        do_word cpu
        told "no GPU can be used, nothing is proven of one; left out: $(printf '%s\n' "${words[@]}" | grep -vx cpu | tr '\n' ' ')"
        say "results in $results, $out/summary.txt and $out/results.tgz"
        exit 3
    fi
    export GLMEVAL_REQUIRE_GPU=1
fi
for word in "${words[@]}"; do
    do_word "$word"
done
say "summary"
cat "$results/summary.txt"
say "results in $results, $out/summary.txt and $out/results.tgz"
exit $failed
