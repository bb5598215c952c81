# SPDX-License-Identifier: Apache-2.0
"""The drivers' branch of Neutron's database migrations (`neutron-db-manage`)."""
