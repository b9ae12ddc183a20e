#!/bin/bash

# Parameters
#SBATCH --account=proj-42
#SBATCH --array=0-19%3
#SBATCH --constraint='ib&nvme'
#SBATCH --cpus-per-task=8
#SBATCH --error=/runs/demo/gen-000/submission-0/%A_%a_0_log.err
#SBATCH --exclude='n[7-9],bad1,bad2'
#SBATCH --exclusive
#SBATCH --export=HOME,PATH,PYTHONPATH
#SBATCH --gres=gpu:a100:2
#SBATCH --job-name=demo-g000-s0
#SBATCH --mail-type=END
#SBATCH --mem=4096M
#SBATCH --nice=100
#SBATCH --no-requeue
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/runs/demo/gen-000/submission-0/%A_%a_0_log.out
#SBATCH --partition=gpu
#SBATCH --qos=high
#SBATCH --reservation=course
#SBATCH --signal=B:USR2@120
#SBATCH --time=60
#SBATCH --wckey=nlp

# setup
trap '' USR2
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"
ln -sf call.pkl /runs/demo/gen-000/submission-0/"${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}_submitted.pkl"

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /runs/demo/gen-000/submission-0/%A_%a_%t_log.out --error /runs/demo/gen-000/submission-0/%A_%a_%t_log.err --export=ALL --kill-on-bad-exit=1 '/opt/my py/bin/python' -u -m submitit.core._submit /runs/demo/gen-000/submission-0
