#!/bin/bash
# sbatch launch/slurm.sh, from 10_pytorch_distributed: two machines, each with one torchrun
# that starts four workers on GPUs. The rendezvous is on the first machine of the job.
#SBATCH --job-name=microgpt
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=00:30:00
set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=1

# all machines must have access to the folder of the checkpoints
srun uv run torchrun \
    --nnodes "$SLURM_NNODES" \
    --nproc-per-node 4 \
    --max-restarts 3 \
    --rdzv-backend c10d \
    --rdzv-id "$SLURM_JOB_ID" \
    --rdzv-endpoint "$head:29500" \
    -- main.py --device cuda --checkpoint "$SLURM_SUBMIT_DIR/checkpoints" --log run.jsonl
