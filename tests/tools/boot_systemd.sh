#!/bin/sh
# A systemd of its own, as the first process of its own namespaces: `boot_systemd.sh UNITS`. UNITS is its /etc/systemd/system, and all
# units that it knows; its /run is empty. Files and network are the host's. When it is killed, everything that it started goes too, as
# when a host goes down; started again with the same UNITS, it boots. Needs root and a cgroup2 hierarchy.
set -e
if [ "$1" != --inside ]; then
    all=$(findmnt -n -t cgroup2 -o TARGET | head -n 1)
    group="$all/lifeboat-test-$$"
    mkdir "$group"
    echo $$ >"$group/cgroup.procs"
    exec unshare --mount --pid --fork --kill-child --cgroup --ipc sh "$0" --inside "$1"
fi
units=$2
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
mount --bind "$units" /etc/systemd/system
umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for target in multi-user basic sysinit network shutdown; do
    printf '[Unit]\nDefaultDependencies=no\n' >"/etc/systemd/system/$target.target"
done
exec env -i PATH="$PATH" container=lifeboat-test SYSTEMD_UNIT_PATH=/etc/systemd/system \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --show-status=no
