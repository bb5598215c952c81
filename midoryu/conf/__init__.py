# SPDX-License-Identifier: Apache-2.0
"""The options of `midoryu.conf`, with oslo.config.

Decides names, types, ranges, defaults and help of every option, one module for each
group; registers nothing at import. `opts.list_opts` feeds the sample generator. What
the options mean together is judged in `cmd`, which alone reads them.
"""
