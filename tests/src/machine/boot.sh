#!/bin/sh
# Becomes systemd as the first process of a machine that is this one, written over in a folder: what it changes is gone with it.
# boot.sh FOLDER, in mount, process and control group namespaces of its own; FOLDER/upper holds files that the machine has besides, FOLDER/units its units.
set -eu
cd "$1"
mount --make-rprivate /
mkdir -p upper layer state root
# Not a part of what lies below.
mount -t tmpfs layer layer
cp -a upper layer/upper
mkdir layer/work
mount -t overlay -o lowerdir=/,upperdir=layer/upper,workdir=layer/work machine root
# What services keep is on a disk, as it would be.
mkdir -p root/var/lib/private
mount --bind state root/var/lib/private
chmod 0700 root/var/lib/private
mount -t proc proc root/proc
mount -t sysfs -o ro sysfs root/sys
mount -t cgroup2 cgroup2 root/sys/fs/cgroup
mount -t tmpfs -o mode=0755 dev root/dev
for node in null zero full random urandom tty; do
    touch "root/dev/$node"
    mount --bind "/dev/$node" "root/dev/$node"
done
mkdir root/dev/pts root/dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts root/dev/pts
ln -s pts/ptmx root/dev/ptmx
ln -s /proc/self/fd root/dev/fd
mount -t tmpfs -o mode=1777 shm root/dev/shm
mount -t tmpfs -o mode=0755 run root/run
mount -t tmpfs -o mode=1777 tmp root/tmp
# Nothing of the units of this machine but what is needed, and nothing that makes others of its configuration.
for folder in usr/lib/systemd/system etc/systemd/system usr/lib/systemd/system-generators; do
    mount -t tmpfs -o mode=0755 units "root/$folder"
done
cp -a units/. root/usr/lib/systemd/system/
mkdir root/usr/lib/systemd/system/sysinit.target.wants
ln -s ../systemd-journald.service root/usr/lib/systemd/system/sysinit.target.wants/
# Machines that are made for tests keep Debian's packages from starting their services: this one is there to start them.
rm -f root/usr/sbin/policy-rc.d
cd root
mkdir -p mnt
pivot_root . mnt
umount -l mnt
# What systemd does itself where it is not told that it runs in a container: credentials get into services that way.
mount --make-rshared /
exec env -i container=inrush-tests PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=multi-user.target --log-target=journal
