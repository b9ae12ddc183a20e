#!/bin/bash

# Parameters
#SBATCH --array=0-19%8
#SBATCH --cpus-per-task=18
#SBATCH --error=/runs/search/gen-000/submission-0/%A_%a_0_log.err
#SBATCH --export=NAMES
#SBATCH --gpus-per-node=1
#SBATCH --job-name=xa-00000000-g000-s0
#SBATCH --mem=122880M
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/runs/search/gen-000/submission-0/%A_%a_0_log.out
#SBATCH --partition=gpu_a100
#SBATCH --requeue
#SBATCH --signal=B:USR2@120
#SBATCH --time=70

# setup
trap '' USR2
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"
ln -sf call.pkl /runs/search/gen-000/submission-0/"${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}_submitted.pkl"

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /runs/search/gen-000/submission-0/%A_%a_%t_log.out --error /runs/search/gen-000/submission-0/%A_%a_%t_log.err --export=ALL --kill-on-bad-exit=1 PYTHON -u -m submitit.core._submit /runs/search/gen-000/submission-0
