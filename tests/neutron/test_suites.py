# SPDX-License-Identifier: Apache-2.0
"""Neutron's own unit suites, with our mechanism driver and L3 plugin.

Overridden are only tests whose expectation is another back end's; each says why.
"""

from __future__ import annotations

from neutron.services.revisions import revision_plugin
from neutron.tests.unit.api import test_extensions
from neutron.tests.unit.extensions import (
    test_extraroute,
    test_l3,
    test_l3_ext_gw_mode,
)
from neutron.tests.unit.plugins.ml2 import (
    test_ext_portsecurity,
    test_plugin,
    test_security_group,
)
from neutron_lib.api.definitions import portbindings
from neutron_lib.plugins import constants as plugin_constants
from neutron_lib.plugins import directory
from oslo_config import cfg
from webob import exc as http_exceptions

from tests.neutron.suite import WithNsdb, the_sync, use_nsdb

L3 = "midoryu.neutron.l3.MidoryuL3Plugin"


class WithMidoryu(WithNsdb):
    """Mixed in before a test class for ML2."""

    _mechanism_drivers = ["logger", "test", "midoryu"]
    l3_plugin = L3

    def setUp(self) -> None:
        # Some of Neutron's classes pass over the one that does this.
        cfg.CONF.set_override("mechanism_drivers", self._mechanism_drivers, "ml2")
        super().setUp()


class TestBasicGet(WithMidoryu, test_plugin.TestMl2BasicGet):
    """Reading."""


class TestResponse(WithMidoryu, test_plugin.TestMl2V2HTTPResponse):
    """What HTTP says."""


class TestNetworks(WithMidoryu, test_plugin.TestMl2NetworksV2):
    """Networks."""


class TestSubnets(WithMidoryu, test_plugin.TestMl2SubnetsV2):
    """Subnets."""

    uncompared = frozenset(
        (
            "test_create_subnet_check_mtu_in_mech_context",
            "test_update_subnet_the_same_gw_as_in_use_by_router",
            "test_update_subnet_the_same_gw_as_in_use_by_router_ipv6",
        )
    )


class TestPorts(WithMidoryu, test_plugin.TestMl2PortsV2):
    """Ports."""

    # Neutron's own `test` driver would bind them, and expects to.
    _mechanism_drivers = ["logger", "midoryu"]
    uncompared = frozenset(
        (
            "test__port_provisioned_no_binding",
            "test_create_port_tolerates_db_deadlock",
            "test_delete_port_tolerates_db_deadlock",
            "test_list_ports_filtered_by_security_groups",
        )
    )

    def test_update_port_mac(self) -> None:
        """A bound port keeps its MAC address, as with every driver that binds."""
        self.check_update_port_mac(
            host_arg={portbindings.HOST_ID: "fake-host"},
            arg_list=(portbindings.HOST_ID,),
            expected_status=http_exceptions.HTTPConflict.code,
            expected_error="PortBound",
        )

    def test_dhcp_provisioning_blocks_not_inserted_on_no_addr_change(self) -> None:
        self.skipTest("counts blocks of any kind; ours is that the port is wired")


class TestSegments(WithMidoryu, test_plugin.TestMultiSegmentNetworks):
    """Networks of several segments."""


class TestPortBinding(WithMidoryu, test_plugin.TestMl2PortBinding):
    """Bindings, several for one port, too."""

    uncompared = frozenset(("test__bind_port_original_port_set",))


class TestPortBindingHost(WithMidoryu, test_plugin.TestMl2PortBindingHost):
    """Bindings by host."""

    _mechanism_drivers = ["logger", "midoryu"]


class TestPortBindingVnicType(WithMidoryu, test_plugin.TestMl2PortBindingVnicType):
    """Bindings by kind of interface."""

    _mechanism_drivers = ["logger", "midoryu"]


class TestAddressPairs(WithMidoryu, test_plugin.TestMl2AllowedAddressPairs):
    """Allowed address pairs."""


class TestPortSecurity(WithMidoryu, test_ext_portsecurity.PSExtDriverTestCase):
    """Port security."""


class TestMl2Segments(WithMidoryu, test_plugin.TestML2Segments):
    """Dynamic segments."""


class TestSecurityGroups(WithMidoryu, test_security_group.TestMl2SecurityGroups):
    """Security groups and their rules."""


class TestRouters(
    WithNsdb,
    test_l3_ext_gw_mode.ExtGwModeIntTestCase,
    test_l3.L3BaseForIntTests,
    test_l3.L3NatTestCaseBase,
    test_extraroute.ExtraRouteDBTestCaseBase,
):
    """Routers, gateways, extra routes, floating addresses; not on ML2."""

    # These tests' core plugin tells nobody of ports that are deleted.
    compared = ()

    def test__notify_gateway_port_ip_changed(self) -> None:
        self.skipTest("expects an RPC message to L3 agents; there are none")

    def test__notify_gateway_port_ip_not_changed(self) -> None:
        self.skipTest("expects an RPC message to L3 agents; there are none")

    def test_create_floatingip_non_admin_context_agent_notification(self) -> None:
        self.skipTest("expects an RPC message to L3 agents; there are none")

    def setUp(self) -> None:
        self._set_up_with_l3()

    def _set_up_with_l3(self) -> None:
        use_nsdb()
        super(test_l3.L3BaseForIntTests, self).setUp(
            plugin="neutron.tests.unit.extensions.test_l3.TestNoL3NatPlugin",
            ext_mgr=test_extraroute.ExtraRouteTestExtensionManager(),
            service_plugins={"l3_plugin_name": L3},
        )
        revision_plugin.RevisionPlugin()
        manager = test_l3_ext_gw_mode.TestExtensionManager()
        test_extensions.setup_extensions_middleware(manager)
        self.l3_inst = directory.get_plugin(plugin_constants.L3)
        self.setup_notification_driver()
        self.sync = the_sync()
