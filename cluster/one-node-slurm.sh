#!/usr/bin/env bash
# A Slurm of one node on this machine, from Debian's packages, and a profile's runs on it: cluster/one-node-slurm.sh [PROFILE]
# For trying the cluster path where there is no cluster; needs root. It ends what it has started.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:-tiny}

if [ -e /etc/slurm/slurm.conf ] || pgrep -x 'slurmd|slurmctld|munged' >/dev/null; then
    echo "there is a Slurm, or a munge, on this machine already, which this would end; it is for a machine without one" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
command -v slurmctld munged sbatch >/dev/null || { apt-get update -qq; apt-get install -y -qq munge slurmctld slurmd slurm-client >/dev/null; }
make -s .venv/.ready

host=$(hostname -s)
grep -qw "$host" /etc/hosts || echo "127.0.0.1 $host" >> /etc/hosts
state=$(mktemp -d /tmp/one-node-slurm.XXXXXX)
chmod 755 "$state"
install -d -o slurm -g slurm "$state/ctld" "$state/log"
cat > /etc/slurm/slurm.conf <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=slurm
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/slurmd
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/log/slurmctld.log
SlurmdLogFile=$state/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
stop() {
    pkill -x slurmd || true
    pkill -x slurmctld || true
    pkill -x munged || true
    rm -rf "$state" /etc/slurm/slurm.conf
}
trap stop EXIT
install -d -o munge -g munge -m 755 /run/munge
runuser -u munge -- /usr/sbin/munged
slurmctld
slurmd
for _ in $(seq 30); do
    sinfo -h -o %T 2>/dev/null | grep -q idle && break
    sleep 1
done
sinfo

# The settings are jobs of their own, side by side as far as the node's cores go.
.venv/bin/snakemake --executor slurm --jobs 4 --nolock --rerun-incomplete --latency-wait 20 --config profile="$profile" \
    --slurm-no-account --slurm-status-command squeue --slurm-init-seconds-before-status-checks 5 \
    --set-threads evaluate="$(nproc)" --default-resources slurm_partition=main runtime=120 mem_mb=0
.venv/bin/python -m tools.results "runs/$profile"
