# SPDX-License-Identifier: Apache-2.0
"""The local Open vSwitch's database: the bridge as it shall be, the ports as they are.

Decides which rows of the local OVSDB differ from the settings and writes just those:
the bridge, its controller, the tunnel port `mr-gre` and the flow-state port `mr-state`.
Reports the bridge's datapath id, the ofports of both ports, and every interface that
carries an iface-id. Never touches other interfaces but for one mark, never speaks
OpenFlow, never waits. `client` owns the connection, `repair` compares and writes,
`settings` says what is wanted, `schema` which columns are read.

Invariant: what somebody changes at the bridge is put back with the next update.

Source: ovs-vswitchd.conf.db(5); RFC 7047 (OVSDB).
"""
