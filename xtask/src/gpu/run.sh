#!/bin/bash
# Proves and measures glmeval's CUDA kernels on this machine: a driver, CUDA's libraries (a toolkit, or Python's
# wheels) and, for the comparison, PyTorch. Everything it finds goes to the folder $OUT (default: ./results).
#
#   bash run.sh            all of it, about 20 minutes
#   bash run.sh parity     what can be wrong; about 5 minutes
#   bash run.sh bench      how fast it is: ours, PyTorch, ours again
#   bash run.sh cpu        what needs no GPU: gLMs and probes on the CPU, the benchmark's programs on tiny shapes
#
# Ends with 0 if every step passed, 1 if one failed, 2 for a word it does not know, 3 if no GPU can be used: it then says
# what is missing and runs what `cpu` runs.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$PWD/results}
what=${1:-all}
case $what in
    all | parity | bench | cpu) ;;
    *)
        echo "run.sh: expected all, parity, bench or cpu, found $what" >&2
        exit 2
        ;;
esac
python=${PYTHON:-python3}
failed=0
mkdir -p "$out"
cd "$here" || exit 1

say() { printf '\n== %s\n' "$*"; }
# Runs a step, keeps what it prints, and goes on when it fails: one run should tell as much as it can.
step() {
    local name=$1
    shift
    say "$name: $*"
    "$@" 2>&1 | tee "$out/$name.txt"
    local code=${PIPESTATUS[0]}
    if [ "$code" -ne 0 ]; then
        say "$name FAILED with $code"
        failed=1
    fi
}

# NVRTC and cuBLASLt from Python's wheels, unless a toolkit has them already.
wheels=$("$python" - <<'PY' 2>/dev/null
import glob, os, site, sys
folders = site.getsitepackages() + [site.getusersitepackages()] + sys.path
found = []
for folder in folders:
    found += glob.glob(os.path.join(folder, "nvidia", "*", "lib"))
print(":".join(dict.fromkeys(found)))
PY
)
export LD_LIBRARY_PATH="${wheels:+$wheels:}/usr/local/cuda/lib64:/usr/local/nvidia/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export GLMEVAL_KERNEL_CACHE="$here/kernel-cache"
export GLMEVAL_TEST_SEED=${GLMEVAL_TEST_SEED:-$(date +%s)}
# Tests know their fixtures by the path they were compiled at.
root=$(cat root)
if [ ! -e "$root" ]; then
    mkdir -p "$(dirname "$root")" && ln -s "$here/repository" "$root" || say "fixtures cannot be put at $root"
fi

# Says what of a bare machine is there; whether the GPU can be used is asked of our own program.
library() {
    "$python" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$1" 2>/dev/null
}
any_library() {
    local name
    for name in "$@"; do
        if library "$name"; then
            echo "found    $name"
            return
        fi
    done
    echo "missing  $1"
}
preflight() {
    command -v "$python" >/dev/null && echo "found    $python" || echo "missing  $python: no libraries from its wheels, no peers, no table"
    any_library libcuda.so.1
    any_library libnvrtc.so.13 libnvrtc.so.12
    any_library libcublasLt.so.13 libcublasLt.so.12
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi
        nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit --format=csv > "$out/gpu.csv"
    else
        echo "missing  nvidia-smi"
    fi
    if "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
        echo "found    PyTorch that sees the GPU"
    else
        echo "missing  PyTorch that sees the GPU: benchmarks without peers"
    fi
}
step preflight preflight
step doctor bin/glmeval doctor

# What needs no GPU.
on_cpu() {
    step cpu-models bin/golden-models --test-threads 4 --skip device
    step cpu-probes bin/golden-networks --test-threads 4 --skip device
    if command -v g++ >/dev/null; then
        step smoke-kernels bin/gpu_bench --smoke --repetitions 1
        step smoke-steps bin/network_rate --smoke
    else
        say "smoke-kernels, smoke-steps: missing g++, which the emulator of kernels is compiled with: skipped"
    fi
    if "$python" -c 'import torch' 2>/dev/null; then
        step smoke-peers "$python" repository/bench/peers/gpu.py --smoke
    else
        say "smoke-peers: missing PyTorch: skipped"
    fi
}
if [ "$what" = cpu ]; then
    on_cpu
    say "results in $out"
    exit $failed
fi
if ! bin/gpu_bench --check > "$out/check.txt" 2>&1; then
    say "no GPU can be used: $(cat "$out/check.txt")"
    say "skipped for want of it: parity-kernels, parity-worker, parity-models, parity-probes, compute-sanitizer, benchmarks"
    on_cpu
    say "nothing is proven of a GPU; results in $out"
    exit 3
fi
say "$(cat "$out/check.txt")"
export GLMEVAL_REQUIRE_GPU=1

if [ "$what" != bench ]; then
    say "operands are drawn with seed $GLMEVAL_TEST_SEED"
    # One test at a time: each opens the device anew, and a failure names its test.
    step parity-kernels bin/kernels-tests --test-threads 1 ::cuda::
    # These want the emulator too, which is compiled with g++.
    if command -v g++ >/dev/null; then
        step parity-device bin/kernels-tests --test-threads 1 cuda::tests --skip ops::
        step parity-worker bin/worker-tests --test-threads 1 cuda device
    else
        say "parity-device, tests of the emulator in parity-worker: missing g++: skipped"
        step parity-worker bin/worker-tests --test-threads 1 cuda device --skip device::tests --skip rate::tests
    fi
    step parity-models bin/golden-models --test-threads 1 device
    step parity-probes bin/golden-networks --test-threads 1 device
    sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
    if [ -n "$sanitizer" ]; then
        for tool in memcheck racecheck; do
            step "sanitizer-$tool" timeout 300 "$sanitizer" --tool "$tool" --error-exitcode 9 bin/kernels-tests --test-threads 1 ::cuda::tests
        done
    else
        say "compute-sanitizer is not here: skipped"
    fi
fi

if [ "$what" != parity ]; then
    step ours-first bash -c 'bin/gpu_bench && bin/network_rate --device'
    if "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
        step peers "$python" repository/bench/peers/gpu.py
    else
        say "no PyTorch that sees the GPU: no peers"
    fi
    step ours-again bash -c 'bin/gpu_bench && bin/network_rate --device'
    grep -h '^{' "$out/ours-first.txt" > "$out/ours-first.jsonl"
    grep -h '^{' "$out/peers.txt" > "$out/peers.jsonl" 2>/dev/null
    grep -h '^{' "$out/ours-again.txt" > "$out/ours-again.jsonl"
    step table "$python" table.py "$out"
fi
say "results in $out"
exit $failed
