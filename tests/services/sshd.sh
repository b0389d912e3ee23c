#!/bin/sh
# An OpenSSH server for tests, on loopback, with keys of its own, that offers SFTP only.
#
#   sshd.sh         start it if it does not run, and print how to connect, as NAME=value lines
#   sshd.sh stop    stop it
#
# It may be run any number of times and by several tests at once. Needs root: the server must be
# able to log in its test user, who can do nothing but SFTP, and that only in its home.
set -eu

port=${BOATHOUSE_TEST_SSH_PORT:-12022}
home=${BOATHOUSE_TEST_HOME:-$HOME/.cache/boathouse/services}/sshd
user=boathouse-sftp
password=boathouse-sftp-test

mkdir -p "$home"
exec 9>"$home/lock"
flock 9

running() { [ -f "$home/pid" ] && kill -0 "$(cat "$home/pid")" 2>/dev/null; }

case ${1:-start} in
start)
    if [ "$(id -u)" != 0 ]; then
        echo "sshd.sh has to run as root: it makes the user $user" >&2
        exit 1
    fi
    if [ ! -x /usr/sbin/sshd ]; then
        # The package must not start a server of its own.
        [ -e /usr/sbin/policy-rc.d ] || policy=yes
        [ -z "${policy:-}" ] || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; }
        {
            DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends openssh-server ||
                { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends openssh-server; }
        } >"$home/install.log" 2>&1 9>&- || { cat "$home/install.log" >&2; exit 1; }
        [ -z "${policy:-}" ] || rm -f /usr/sbin/policy-rc.d
    fi
    root=/srv/$user
    id "$user" >/dev/null 2>&1 || useradd --no-create-home --home-dir /files --shell /usr/sbin/nologin "$user"
    echo "$user:$password" | chpasswd
    # A chroot has to belong to root; the user writes below it.
    mkdir -p "$root/files"
    chown root:root "$root"
    chmod 755 "$root"
    chown "$user:" "$root/files"
    [ -f "$home/host_key" ] || ssh-keygen -q -t ed25519 -N '' -f "$home/host_key"
    [ -f "$home/user_key" ] || ssh-keygen -q -t ed25519 -N '' -f "$home/user_key"
    # Where the server can read it whatever the rights of this user's home are.
    mkdir -p /etc/ssh/boathouse-test
    cp "$home/user_key.pub" /etc/ssh/boathouse-test/authorized_keys
    chmod 755 /etc/ssh/boathouse-test
    chmod 644 /etc/ssh/boathouse-test/authorized_keys
    cat >"$home/sshd_config" <<CONFIG
Port $port
ListenAddress 127.0.0.1
HostKey $home/host_key
PidFile $home/pid
AuthorizedKeysFile /etc/ssh/boathouse-test/authorized_keys
AllowUsers $user
PasswordAuthentication yes
KbdInteractiveAuthentication no
UsePAM no
Subsystem sftp internal-sftp
ForceCommand internal-sftp
ChrootDirectory $root
MaxStartups 100
CONFIG
    if ! running; then
        mkdir -p /run/sshd
        rm -f "$home/pid"
        /usr/sbin/sshd -f "$home/sshd_config" -E "$home/log" 9>&- || { cat "$home/log" >&2; exit 1; }
        tries=0
        until running; do
            tries=$((tries + 1))
            [ "$tries" -le 100 ] || { cat "$home/log" >&2; exit 1; }
            sleep 0.05
        done
    fi
    echo "HOST=127.0.0.1"
    echo "PORT=$port"
    echo "USER=$user"
    echo "PASSWORD=$password"
    echo "PRIVATE_KEY=$home/user_key"
    echo "HOST_KEY=$(ssh-keygen -lf "$home/host_key.pub" | cut -d' ' -f2)"
    echo "FOLDER=$root/files"
    ;;
stop)
    if running; then kill "$(cat "$home/pid")"; fi
    ;;
*)
    echo "usage: sshd.sh [start|stop]" >&2
    exit 2
    ;;
esac
