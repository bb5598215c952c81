# SPDX-License-Identifier: Apache-2.0
"""Plug or unplug an interface as Nova does: through os-vif, on the host itself.

`python plug.py plug|unplug DEVICE PORT_ID MAC NETWORK_ID BRIDGE [tap]`

The local OVSDB is where os-vif looks by default, tcp:127.0.0.1:6640.
"""

from __future__ import annotations

import sys
import uuid


def main() -> None:
    verb, device, port, mac, network, bridge, *tap = sys.argv[1:]
    import os_vif
    from os_vif import objects
    from vif_plug_ovs import privsep

    os_vif.initialize()
    privsep.vif_plug.set_client_mode(False)
    profile = objects.vif.VIFPortProfileOpenVSwitch(
        interface_id=port,
        datapath_type="netdev",
        create_port=True,
        create_tap=bool(tap),
    )
    vif = objects.vif.VIFOpenVSwitch(
        id=port,
        address=mac,
        vif_name=device,
        bridge_name=bridge,
        plugin="ovs",
        has_traffic_filtering=True,
        preserve_on_delete=False,
        active=True,
        port_profile=profile,
        network=objects.network.Network(id=network, bridge=bridge, mtu=1458),
    )
    instance = objects.instance_info.InstanceInfo(
        uuid=str(uuid.uuid5(uuid.NAMESPACE_OID, port)), name="instance"
    )
    (os_vif.plug if verb == "plug" else os_vif.unplug)(vif, instance)


if __name__ == "__main__":
    main()
