#!/usr/bin/env bash
# Starts the assistant, or one of the jobs around it.
set -euo pipefail
cd "$(dirname "$0")"

usage() {
    cat <<'TEXT'
usage: ./start.sh [run|finetune DATA|docker]

The assistant uses the RTX 3090. On another machine choose the GPU yourself:
    export CUDA_VISIBLE_DEVICES=0
    ASSISTANT_GPU=0 ./start.sh run
TEXT
}

source .venv/bin/activate
export CUDA_VISIBLE_DEVICES="${ASSISTANT_GPU:-1}"

case "${1:-run}" in
    run)
        echo "starting on GPU $CUDA_VISIBLE_DEVICES"
        exec python -m assistant
        ;;
    finetune)
        accelerate launch --num_processes 1 --gpu_ids 1 scripts/finetune.py "$2"
        ;;
    docker)
        docker build -t assistant .
        docker run --rm -it --gpus all --device /dev/snd -v /data:/data assistant
        ;;
    *)
        usage >&2
        exit 2
        ;;
esac
