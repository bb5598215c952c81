#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# midoryu in DevStack: what stack.sh, unstack.sh and clean.sh run.

_XTRACE_MIDORYU=$(set +o | grep xtrace)
set +o xtrace

MIDORYU_BIN_DIR=${MIDORYU_BIN_DIR:-$(get_python_exec_prefix)}
MIDORYU_NSDB_DB=$MIDORYU_DATA_DIR/nsdb.db
MIDORYU_KEY_FILE=$MIDORYU_CONF_DIR/flow-state.key
MIDORYU_METADATA_CONF=$MIDORYU_CONF_DIR/metadata.conf

# Tell whether this host has a way into the public physical network.
function is_midoryu_gateway {
    [[ ",$MIDORYU_GATEWAYS," == *",$PUBLIC_PHYSICAL_NETWORK:$MIDORYU_HOST,"* ]]
}

function install_midoryu {
    # os-ken is there with Neutron, and the agent runs on it as on Ryu.
    pip_install os-ken ovs eventlet oslo.config netaddr PyYAML
    setup_develop "$MIDORYU_DIR"
    restart_service openvswitch-switch || restart_service openvswitch
}

# The options of the API's processes: in the one file that the API reads under uwsgi.
function configure_midoryu_neutron {
    local conf=/$Q_PLUGIN_CONF_FILE
    iniset "$conf" midoryu nsdb_connection "$MIDORYU_NSDB_CONNECTION"
    iniset "$conf" midoryu gateways "$MIDORYU_GATEWAYS"
    iniset "$conf" midoryu bridge "$OVS_BRIDGE"
    iniset "$conf" midoryu datapath_type "$MIDORYU_DATAPATH_TYPE"
    if ! is_service_enabled midoryu-metadata; then
        iniset "$conf" midoryu metadata False
    fi
    iniset "$conf" ml2 extension_drivers "$Q_ML2_PLUGIN_EXT_DRIVERS"
    iniset "$conf" ml2 overlay_ip_version "${TUNNEL_IP_VERSION:-4}"
    iniset "$conf" ml2 path_mtu "$MIDORYU_UNDERLAY_MTU"
    iniset "$conf" ml2_type_flat flat_networks "$PUBLIC_PHYSICAL_NETWORK"
    iniset "$NEUTRON_CONF" DEFAULT global_physnet_mtu "$MIDORYU_UNDERLAY_MTU"
    # There are no DHCP agents to tell.
    iniset "$NEUTRON_CONF" DEFAULT dhcp_agent_notification False
}

function configure_midoryu_nova {
    if [[ -n "$NOVA_CONF" && -f "$NOVA_CONF" ]]; then
        iniset "$NOVA_CONF" neutron service_metadata_proxy True
        iniset "$NOVA_CONF" neutron metadata_proxy_shared_secret "$MIDORYU_METADATA_SECRET"
    fi
    if [[ -n "$NOVA_CPU_CONF" && -f "$NOVA_CPU_CONF" ]]; then
        iniset "$NOVA_CPU_CONF" os_vif_ovs ovsdb_connection "tcp:127.0.0.1:6640"
    fi
}

function configure_midoryu_agent {
    local key=$MIDORYU_FLOW_STATE_KEY
    if [[ -z "$key" ]]; then
        key=$(printf 'midoryu %s' "$SERVICE_PASSWORD" | sha256sum | cut -d' ' -f1)
    fi
    sudo install -d -o "$STACK_USER" "$MIDORYU_CONF_DIR" "$MIDORYU_DATA_DIR"
    (umask 077; echo "$key" >"$MIDORYU_KEY_FILE")
    iniset "$MIDORYU_CONF" agent host "$MIDORYU_HOST"
    iniset "$MIDORYU_CONF" agent local_ip "$MIDORYU_LOCAL_IP"
    iniset "$MIDORYU_CONF" agent bridge "$OVS_BRIDGE"
    iniset "$MIDORYU_CONF" agent datapath_type "$MIDORYU_DATAPATH_TYPE"
    iniset "$MIDORYU_CONF" agent tunnel_type "$MIDORYU_TUNNEL_TYPE"
    iniset "$MIDORYU_CONF" agent mtu_bytes "$MIDORYU_UNDERLAY_MTU"
    iniset "$MIDORYU_CONF" agent openflow_port "$MIDORYU_OPENFLOW_PORT"
    iniset "$MIDORYU_CONF" agent ovsdb "$MIDORYU_OVSDB"
    # shellcheck disable=SC2153
    iniset "$MIDORYU_CONF" agent control_socket "$MIDORYU_RUN_DIR/agent.sock"
    iniset "$MIDORYU_CONF" nsdb connection "$MIDORYU_NSDB_CONNECTION"
    iniset "$MIDORYU_CONF" flow_state key_file "$MIDORYU_KEY_FILE"
    iniset "$MIDORYU_CONF" flow_state journal "$MIDORYU_DATA_DIR/journal.db"
}

# os-vif reaches Open vSwitch by TCP.
function configure_midoryu_ovs {
    sudo ovs-vsctl set-manager ptcp:6640:127.0.0.1
    sudo ovs-vsctl --may-exist add-br "$OVS_BRIDGE" -- \
        set bridge "$OVS_BRIDGE" datapath_type="$MIDORYU_DATAPATH_TYPE" fail_mode=secure
}

# A patch from the integration bridge to PUBLIC_BRIDGE is this host's interface in the
# public physical network.
function plug_midoryu_uplink {
    is_midoryu_gateway || return 0
    local inside=mr-public outside=public-mr
    local iface_id=$PUBLIC_PHYSICAL_NETWORK@$MIDORYU_HOST
    sudo ovs-vsctl --may-exist add-br "$PUBLIC_BRIDGE" -- \
        set bridge "$PUBLIC_BRIDGE" datapath_type="$MIDORYU_DATAPATH_TYPE"
    sudo ovs-vsctl --may-exist add-port "$PUBLIC_BRIDGE" $outside -- \
        set interface $outside type=patch options:peer=$inside -- \
        --may-exist add-port "$OVS_BRIDGE" $inside -- \
        set interface $inside type=patch options:peer=$outside \
        external_ids:iface-id="\"$iface_id\""
    if [[ -n "${PUBLIC_INTERFACE:-}" ]]; then
        sudo ovs-vsctl --may-exist add-port "$PUBLIC_BRIDGE" "$PUBLIC_INTERFACE"
    fi
    sudo ip link set dev "$PUBLIC_BRIDGE" up
}

# This machine is the router that the public networks' gateway addresses promise.
function address_midoryu_public_bridge {
    is_midoryu_gateway || return 0
    [[ "$(trueorfalse True MIDORYU_USE_PUBLIC_BRIDGE)" == "True" ]] || return 0
    if [[ -n "${PUBLIC_NETWORK_GATEWAY:-}" && -n "${FLOATING_RANGE:-}" ]]; then
        sudo ip addr replace "$PUBLIC_NETWORK_GATEWAY/${FLOATING_RANGE#*/}" \
            dev "$PUBLIC_BRIDGE"
    fi
    if [[ -n "${IPV6_PUBLIC_NETWORK_GATEWAY:-}" && -n "${IPV6_PUBLIC_RANGE:-}" ]]; then
        sudo sysctl -qw "net.ipv6.conf.$PUBLIC_BRIDGE.disable_ipv6=0" || true
        sudo ip -6 addr replace "$IPV6_PUBLIC_NETWORK_GATEWAY/${IPV6_PUBLIC_RANGE#*/}" \
            dev "$PUBLIC_BRIDGE" || true
    fi
}

function start_midoryu_nsdb {
    local schema=$MIDORYU_DIR/midoryu/nsdb/midoryu.ovsschema
    sudo install -d "$MIDORYU_RUN_DIR" "$MIDORYU_DATA_DIR"
    if ! sudo test -e "$MIDORYU_NSDB_DB"; then
        sudo ovsdb-tool create "$MIDORYU_NSDB_DB" "$schema"
    elif [[ "$(sudo ovsdb-tool needs-conversion "$MIDORYU_NSDB_DB" "$schema")" == yes ]]; then
        sudo ovsdb-tool convert "$MIDORYU_NSDB_DB" "$schema"
    fi
    run_process midoryu-nsdb "$(command -v ovsdb-server) --no-chdir \
--remote=punix:$MIDORYU_RUN_DIR/nsdb.sock \
--remote=ptcp:$MIDORYU_NSDB_PORT:$MIDORYU_NSDB_HOST \
--unixctl=$MIDORYU_RUN_DIR/nsdb.ctl $MIDORYU_NSDB_DB" "" root
}

function start_midoryu_agent {
    sudo install -d "$MIDORYU_RUN_DIR"
    run_process midoryu-agent "$MIDORYU_BIN_DIR/ryu-manager \
--config-file $MIDORYU_CONF midoryu.agent" "" root
}

# Wait until this host's agent has said in the database that it is there.
function wait_for_midoryu_agent {
    local query="[\"Midoryu\",{\"op\":\"select\",\"table\":\"Host\",\"columns\":[\"name\"],\
\"where\":[[\"name\",\"==\",\"$MIDORYU_HOST\"]]}]"
    local ask="ovsdb-client transact $MIDORYU_NSDB_CONNECTION '$query' | grep -q '\"$MIDORYU_HOST\"'"
    if ! timeout "${SERVICE_TIMEOUT:-60}" sh -c "while ! $ask; do sleep 1; done"; then
        die $LINENO "midoryu's agent did not register $MIDORYU_HOST in the NSDB"
    fi
}

function start_midoryu_metadata {
    iniset "$MIDORYU_METADATA_CONF" metadata nova_url "$MIDORYU_NOVA_METADATA_URL"
    iniset "$MIDORYU_METADATA_CONF" metadata shared_secret "$MIDORYU_METADATA_SECRET"
    run_process midoryu-metadata "$MIDORYU_BIN_DIR/midoryu-metadata \
--config-file $MIDORYU_CONF --config-file $MIDORYU_METADATA_CONF" "" root
}

function stop_midoryu {
    stop_process midoryu-metadata
    stop_process midoryu-agent
    stop_process midoryu-nsdb
}

# Take back everything that stack.sh made outside of files.
function unplug_midoryu {
    if is_midoryu_gateway; then
        sudo ovs-vsctl --if-exists del-port "$OVS_BRIDGE" mr-public
        sudo ovs-vsctl --if-exists del-port "$PUBLIC_BRIDGE" public-mr
        if sudo ovs-vsctl br-exists "$PUBLIC_BRIDGE"; then
            if [[ -n "${PUBLIC_INTERFACE:-}" ]]; then
                sudo ovs-vsctl --if-exists del-port "$PUBLIC_BRIDGE" "$PUBLIC_INTERFACE"
            fi
            sudo ovs-vsctl --if-exists del-br "$PUBLIC_BRIDGE"
        fi
    fi
    sudo ovs-vsctl --if-exists del-br "$OVS_BRIDGE"
    sudo ovs-vsctl del-manager
    sudo rm -rf "$MIDORYU_RUN_DIR"
}

function clean_midoryu {
    sudo rm -rf "$MIDORYU_CONF_DIR" "$MIDORYU_DATA_DIR" "$MIDORYU_RUN_DIR"
}

if is_service_enabled midoryu-nsdb midoryu-agent; then
    case "$1 ${2:-}" in
        "stack pre-install")
            # Packages come from devstack/files.
            ;;
        "stack install")
            echo_summary "Installing midoryu"
            install_midoryu
            ;;
        "stack post-config")
            echo_summary "Configuring midoryu"
            if is_service_enabled midoryu-nsdb; then
                start_midoryu_nsdb
            fi
            if is_service_enabled q-svc neutron-api; then
                configure_midoryu_neutron
            fi
            configure_midoryu_nova
            if is_service_enabled midoryu-agent; then
                configure_midoryu_ovs
                configure_midoryu_agent
                plug_midoryu_uplink
                start_midoryu_agent
            fi
            if is_service_enabled midoryu-metadata; then
                start_midoryu_metadata
            fi
            ;;
        "stack extra")
            if is_service_enabled midoryu-agent; then
                echo_summary "Waiting for midoryu's agent"
                wait_for_midoryu_agent
                address_midoryu_public_bridge
            fi
            ;;
        "stack test-config")
            if is_service_enabled tempest; then
                iniset "$TEMPEST_CONFIG" network-feature-enabled port_security True
                iniset "$TEMPEST_CONFIG" neutron_plugin_options \
                    available_type_drivers "$Q_ML2_PLUGIN_TYPE_DRIVERS"
            fi
            ;;
        "unstack "*)
            stop_midoryu
            unplug_midoryu
            ;;
        "clean "*)
            clean_midoryu
            ;;
    esac
fi

$_XTRACE_MIDORYU
