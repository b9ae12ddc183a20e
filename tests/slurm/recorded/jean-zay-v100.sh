#!/bin/bash

# Parameters
#SBATCH --account=abc@v100
#SBATCH --array=0-19%16
#SBATCH --constraint=v100-32g
#SBATCH --cpus-per-task=10
#SBATCH --error=/runs/search/gen-000/submission-0/%A_%a_0_log.err
#SBATCH --export=NAMES
#SBATCH --gres=gpu:1
#SBATCH --hint=nomultithread
#SBATCH --job-name=xa-00000000-g000-s0
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/runs/search/gen-000/submission-0/%A_%a_0_log.out
#SBATCH --qos=qos_gpu-t3
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
