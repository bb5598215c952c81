# SPDX-License-Identifier: Apache-2.0
"""midoryu: distributed network virtualisation for Open vSwitch.

The rooms, lowest layer first; each imports only from strictly lower layers:

0  `errors`, `packet`      exceptions; frame bytes <-> packet values
1  `topology`, `openflow`  virtual devices; flow values and the pipeline contract
2  `state`                 connection records, NAT bindings, lifetimes
3  `simulation`            one packet across the topology
4  `translation`, `replication`  physical flows; flow-state messages
5  `engine`                event + knowledge + now -> effects
6  `agent`, `ovs`, `nsdb`  rims: Ryu/OpenFlow, the local OVSDB, the NSDB
7  `conf`, `cmd`, `cli`, `lab`  options, entry points, hosts in namespaces
"""
