#!/bin/bash
# One node, four ranks: a server and three silos. Submit it again with --resume to continue.
#SBATCH --job-name=fedclip
#SBATCH --nodes=1
#SBATCH --ntasks=4
#SBATCH --cpus-per-task=4
#SBATCH --time=01:00:00
#SBATCH --output=fedclip-%j.out

cd /path/to/fedclip
. .venv/bin/activate
fedclip launch pacs/vit_b32_fedclip --run runs/pacs --set fedclip_args.data_root=/data/PACS "$@"
