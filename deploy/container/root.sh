#!/bin/sh
# Puts together the whole file system of the image: root.sh FOLDER PROGRAM…
# The programs, the libraries that they are linked with, the authorities that vouch for next hops, and the names of two users. No shell, no package.
set -eu
folder=$1
shift
for place in usr/bin etc/ssl/certs etc/inrush var/lib/inrush tmp; do mkdir -p "$folder/$place"; done
for program; do
    cp "$program" "$folder/usr/bin/"
    # Lines of ldd: `name => /path (address)`, and `/path (address)` for the loader.
    ldd "$program" | sed -n 's|.*=> \(/[^ ]*\) (.*|\1|p; s|^[[:space:]]*\(/[^ ]*\) (.*|\1|p'
done | sort -u | while read -r library; do
    mkdir -p "$folder/$(dirname "$library")"
    cp -L "$library" "$folder/$library"
done
cp /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/"
printf 'root:x:0:0:root:/:/sbin/nologin\ninrush:x:65532:65532:inrush:/var/lib/inrush:/sbin/nologin\n' > "$folder/etc/passwd"
printf 'root:x:0:\ninrush:x:65532:\n' > "$folder/etc/group"
# Names are looked up in /etc/hosts and by DNS only; the libraries for more are not here.
printf 'hosts: files dns\n' > "$folder/etc/nsswitch.conf"
chown 65532:65532 "$folder/var/lib/inrush"
chmod 0700 "$folder/var/lib/inrush"
