# SPDX-License-Identifier: Apache-2.0
"""Flows: the contract with the switch, our values for it, and their bytes. No Ryu.

`pipeline` says which tables, priorities, registers and cookies there are; `flow` has
the values; `base_flows` and `service_flows` the flows that stand before the first
packet; `wire` encodes, `wire_decode` decodes, with `wire_match`, `wire_action` and
`wire_deliver` for the parts.

Invariants: decoding what was encoded gives equal values, also by way of a real OVS;
any bytes decode to a value or raise `DecodeError`; a match holds exact values only.

Source: OpenFlow 1.3.5; ovs-fields(7), ovs-actions(7).
"""
