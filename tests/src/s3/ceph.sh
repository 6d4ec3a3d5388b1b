#!/bin/sh
# Keeps one Ceph (monitor, OSD in memory, S3 gateway) for a test run, and ends with it.
#
# ceph.sh FOLDER RUNNER MONITOR_PORT GATEWAY_PORT: starts the servers in FOLDER, then writes FOLDER/started, or
# FOLDER/failed with the reason. It ends when no test holds the lock FOLDER/../users any more and either the
# process RUNNER is gone or that has been so for IDLE_SECONDS. The servers die with this shell, however it dies.
set -u
IDLE_SECONDS=60
folder=$1 runner=$2 monitor_port=$3 gateway_port=$4
PATH=$PATH:/usr/sbin:/sbin
cd "$folder" || exit 1
servers=
trap 'kill -KILL $servers 2> /dev/null; exit' EXIT HUP INT TERM

fail() {
    rm -f ready
    { echo "$1"; tail -n 5 ./*.out ./*.log; } > failed.partial 2>&1
    mv failed.partial failed
    exit 1
}
server() {
    setpriv --pdeathsig KILL "$@" -c ceph.conf -f > "$1.out" 2>&1 &
    servers="$servers $!"
}
step() { "$@" > "$1.out" 2>&1 || fail "$* fails"; }

cluster=$(cat /proc/sys/kernel/random/uuid)
disk=$(cat /proc/sys/kernel/random/uuid)
cat > ceph.conf << CONFIGURATION
[global]
fsid = $cluster
mon_initial_members = a
mon_host = [v2:127.0.0.1:$monitor_port]
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
keyring = $folder/keyring
run_dir = $folder
crash_dir = $folder
log_file = $folder/\$name.log
pid_file = $folder/\$name.\$pid.pid
admin_socket = $folder/\$name.\$pid.asok
log_flush_on_exit = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
osd_crush_chooseleaf_type = 0
mon_max_pg_per_osd = 1000
# Objects lie in memory: a disk that is nearly full for other reasons stops nobody.
mon_data_avail_crit = 0
mon_data_avail_warn = 0
osd_objectstore = memstore
memstore_device_bytes = 4294967296
osd_class_load_list = *
osd_class_default_list = *
ms_bind_ipv6 = false
[mon.a]
mon_data = $folder/mon
public_addr = v2:127.0.0.1:$monitor_port
[osd.0]
osd_data = $folder/osd
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:$gateway_port
rgw_data = $folder
rgw_thread_pool_size = 64
CONFIGURATION
mkdir mon osd

step ceph-authtool --create-keyring keyring --gen-key -n mon. --cap mon 'allow *'
step ceph-authtool keyring --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
step ceph-authtool keyring --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
step ceph-authtool keyring --gen-key -n client.rgw --cap mon 'allow rw' --cap osd 'allow rwx'
step monmaptool --create --clobber --fsid "$cluster" --addv a "[v2:127.0.0.1:$monitor_port]" monmap
step ceph-mon -c ceph.conf --mkfs -i a --monmap monmap --keyring keyring
server ceph-mon -i a
step ceph -c ceph.conf --connect-timeout 60 osd new "$disk"
step ceph -c ceph.conf auth import -i keyring
step ceph-osd -c ceph.conf -i 0 --mkfs --osd-uuid "$disk"
server ceph-osd -i 0
tries=0
until ceph -c ceph.conf osd stat 2> ceph.out | grep -q ' 1 up'; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || fail 'the OSD does not come up'
    sleep 0.2
done
step radosgw-admin -c ceph.conf -n client.rgw user create --uid tests --display-name tests \
    --access-key tests --secret-key tests-secret
server radosgw -n client.rgw
: > started

idle=0
while :; do
    sleep 0.5
    for pid in $servers; do
        kill -0 "$pid" 2> /dev/null || fail 'a server has died'
    done
    if flock -n -x ../users true; then idle=$((idle + 1)); else idle=0; continue; fi
    if [ $idle -gt $((IDLE_SECONDS * 2)) ] || ! kill -0 "$runner" 2> /dev/null; then
        # Whoever comes meanwhile waits for the lock, finds nothing ready and starts anew.
        flock -n -x ../users rm -f ready && break
    fi
done
rm -rf "$folder"
