# SPDX-License-Identifier: Apache-2.0
"""What several levels of tests share: frames, a model switch."""
