#!/bin/bash
# Proves and measures glmeval's CUDA kernels on this machine: a driver, CUDA's libraries (a toolkit, or Python's
# wheels) and, for the comparison, PyTorch. Everything it finds goes to the folder $OUT (default: ./results).
#
#   bash run.sh            all of it, about 20 minutes
#   bash run.sh parity     what can be wrong; about 5 minutes
#   bash run.sh bench      how fast it is: ours, PyTorch, ours again
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$PWD/results}
what=${1:-all}
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
export GLMEVAL_REQUIRE_GPU=1
export GLMEVAL_TEST_SEED=${GLMEVAL_TEST_SEED:-$(date +%s)}
# Tests know their fixtures by the path they were compiled at.
root=$(cat root)
if [ ! -e "$root" ]; then
    mkdir -p "$(dirname "$root")" && ln -s "$here/repository" "$root" || say "fixtures cannot be put at $root"
fi

step nvidia-smi nvidia-smi
nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit --format=csv > "$out/gpu.csv" 2>/dev/null
step doctor bin/glmeval doctor

if [ "$what" != bench ]; then
    say "operands are drawn with seed $GLMEVAL_TEST_SEED"
    # One test at a time: each opens the device anew, and a failure names its test.
    step parity-kernels bin/kernels-tests --test-threads 1 cuda
    step parity-worker bin/worker-tests --test-threads 1 cuda device
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
    step ours-first bin/gpu_bench
    if "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
        step peers "$python" repository/bench/peers/gpu.py
    else
        say "no PyTorch that sees the GPU: no peers"
    fi
    step ours-again bin/gpu_bench
    grep -h '^{' "$out/ours-first.txt" > "$out/ours-first.jsonl"
    grep -h '^{' "$out/peers.txt" > "$out/peers.jsonl" 2>/dev/null
    grep -h '^{' "$out/ours-again.txt" > "$out/ours-again.jsonl"
    step table "$python" table.py "$out"
fi
say "results in $out"
exit $failed
