#!/bin/bash
# sbatch launch/slurm.sh, from 10_pytorch_distributed: two hosts, each with four workers on
# GPUs. One torchrun a host; they meet at the first host of the job.
#SBATCH --job-name=microgpt
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=00:30:00
set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=1

# the folder of the checkpoints must be one that all hosts see
srun uv run torchrun \
    --nnodes "$SLURM_NNODES" \
    --nproc-per-node 4 \
    --max-restarts 3 \
    --rdzv-backend c10d \
    --rdzv-id "$SLURM_JOB_ID" \
    --rdzv-endpoint "$head:29500" \
    -- main.py --device cuda --checkpoint "$SLURM_SUBMIT_DIR/checkpoints" --log run.jsonl
