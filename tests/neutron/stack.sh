#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Run phases of the DevStack plugin under stubs: stack.sh DIRECTORY PHASE...
# What would change the machine is written to DIRECTORY/calls; files are written really.
set -eu
directory=$1
shift
plugin=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

call() { echo "$*" >>"$directory/calls"; }
for name in ovs-vsctl ip sysctl ovsdb-tool pip_install setup_develop restart_service \
    run_process stop_process define_plugin install_package; do
    eval "$name() { call $name \"\$@\"; }"
done
sudo() { "$@"; }
timeout() { call timeout "$@"; }
echo_summary() { call summary "$@"; }
die() { echo "$*" >&2; exit 1; }
get_python_exec_prefix() { echo /opt/venv/bin; }
trueorfalse() { local value=${!2:-$1}; echo "$value"; }
enable_service() {
    local one
    for one in "$@"; do ENABLED_SERVICES+=",$one"; done
}
disable_service() {
    local one
    for one in "$@"; do ENABLED_SERVICES=${ENABLED_SERVICES//,$one,/,}; done
}
is_service_enabled() {
    local one
    for one in "$@"; do [[ ",$ENABLED_SERVICES," != *",$one,"* ]] || return 0; done
    return 1
}
iniset() {
    mkdir -p "$(dirname "$1")"
    python3 - "$@" <<'END'
import configparser, sys
path, section, option, value = sys.argv[1:]
config = configparser.RawConfigParser()
config.optionxform = str
config.read(path)
if section != "DEFAULT" and not config.has_section(section):
    config.add_section(section)
config.set(section, option, value)
with open(path, "w") as file:
    config.write(file)
END
}

DEST=/opt/stack DATA_DIR=/opt/stack/data STACK_USER=root
TOP_DIR=/opt/stack/devstack LOCAL_HOSTNAME=${LOCAL_HOSTNAME:-aio}
HOST_IP=192.0.2.10 SERVICE_HOST=192.0.2.10 SERVICE_PASSWORD=secret
NEUTRON_CONF=/etc/neutron/neutron.conf Q_PLUGIN_CONF_FILE=etc/neutron/plugins/ml2/ml2_conf.ini
NOVA_CONF=/etc/nova/nova.conf NOVA_CPU_CONF=/etc/nova/nova-cpu.conf
TEMPEST_CONFIG=/opt/stack/tempest.conf
FLOATING_RANGE=172.24.4.0/24 PUBLIC_NETWORK_GATEWAY=172.24.4.1
ENABLED_SERVICES=${ENABLED_SERVICES:-,q-svc,n-cpu,q-agt,q-dhcp,q-meta,ovn-northd,tempest,}
MIDORYU_DIR=$plugin
mkdir -p /etc/nova && touch /etc/nova/nova.conf /etc/nova/nova-cpu.conf

source "$plugin/devstack/override-defaults"
source "$plugin/devstack/settings"
for phase in "$@"; do
    # As DevStack does: the words are the script's arguments.
    read -ra words <<<"${phase//:/ }"
    source "$plugin/devstack/plugin.sh" "${words[@]}"
done
echo "$ENABLED_SERVICES" >"$directory/services"
