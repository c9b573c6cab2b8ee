"""STAND-IN, for tests only: in place of SGLang's compiled kernels; PyPI has none for a CPU.

SGLang imports functions of ``sgl_kernel`` when it starts. On a CPU without these kernels it
computes a text model with PyTorch's own operators and calls none of them. Here each of them raises:
nothing is computed by this module, so nothing that is measured comes from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn


def _raising(name: str) -> Callable[..., NoReturn]:
    def stand_in(*_: object, **__: object) -> NoReturn:
        raise NotImplementedError(
            f"sgl_kernel.{name} was called, and this sgl_kernel is a stand-in that computes "
            "nothing: this takes SGLang's compiled kernels"
        )

    return stand_in


assign_draft_cache_locs_contiguous_cpu = _raising("assign_draft_cache_locs_contiguous_cpu")
assign_extend_cache_locs_cpu = _raising("assign_extend_cache_locs_cpu")
assign_req_to_token_pool_cpu = _raising("assign_req_to_token_pool_cpu")
build_tree_kernel_efficient_cpu = _raising("build_tree_kernel_efficient_cpu")
copy_all_layer_kv_cache_cpu = _raising("copy_all_layer_kv_cache_cpu")
fill_accept_out_cache_loc_cpu = _raising("fill_accept_out_cache_loc_cpu")
fill_bonus_tokens_cpu = _raising("fill_bonus_tokens_cpu")
verify_tree_greedy_cpu = _raising("verify_tree_greedy_cpu")
