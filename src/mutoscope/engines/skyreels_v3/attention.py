"""Which of diffusers' attention back ends a device gets: the fastest exact one that is there, or the one asked for.

Knows capabilities and names of packages, but no tensor: importing this imports no torch. Kernels that are fetched from
a hub are never taken unasked, since they are code from elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

Capability = tuple[int, int]

HOPPER, BLACKWELL = (9, 0), (10, 0)
_AMPERE, _BLACKWELL_CLIENT = (8, 0), (12, 0)


@dataclass(frozen=True, slots=True)
class Backend:
    """A back end: the package it needs beside torch, the capability it needs, and whether it rounds q, k, v or p."""

    name: str
    package: str | None = None
    least: Capability | None = None
    is_lossy: bool = False


BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend("native"),
        Backend("_native_math"),
        Backend("_native_efficient"),
        Backend("_native_flash", least=_AMPERE),
        Backend("_native_cudnn", least=_AMPERE),
        Backend("flash", "flash_attn", _AMPERE),
        Backend("flash_hub", "kernels", _AMPERE),
        Backend("_flash_3", "flash_attn_interface", HOPPER),
        Backend("_flash_3_hub", "kernels", HOPPER),
        Backend("flash_4_hub", "kernels", HOPPER),
        Backend("xformers", "xformers", _AMPERE),
        Backend("sage", "sageattention", _AMPERE, is_lossy=True),
        Backend("sage_hub", "kernels", _AMPERE, is_lossy=True),
        Backend("sage_blackwell_hub", "kernels", _BLACKWELL_CLIENT, is_lossy=True),
        Backend("_sage_qk_int8_pv_fp16_cuda", "sageattention", _AMPERE, is_lossy=True),
        Backend("_sage_qk_int8_pv_fp16_triton", "sageattention", _AMPERE, is_lossy=True),
        Backend("_sage_qk_int8_pv_fp8_cuda", "sageattention", (8, 9), is_lossy=True),
        Backend("_sage_qk_int8_pv_fp8_cuda_sm90", "sageattention", HOPPER, is_lossy=True),
    )
}
"""Those that take what this network has: no mask, heads of 128. Names are diffusers'."""

PACKAGES: tuple[str, ...] = tuple(sorted({backend.package for backend in BACKENDS.values() if backend.package}))


def choose(
    capability: Capability | None, packages: Collection[str], is_half: bool = True, asked: str | None = None
) -> Backend:
    """The back end for a device: `capability` is CUDA's (None: not CUDA), `packages` those of PACKAGES there are.

    `is_half` says that the network computes in 16 bits: the fast kernels take nothing else. A lossy one comes only by
    being `asked` for. Raises ValueError, saying why, when what is asked for can't be had.
    """
    if asked is not None:
        return _checked(asked, capability, packages, is_half)
    if capability is None or capability < _AMPERE or not is_half:
        return BACKENDS["native"]
    if HOPPER <= capability < BLACKWELL:
        return BACKENDS["_flash_3" if "flash_attn_interface" in packages else "_native_cudnn"]
    if BLACKWELL <= capability < _BLACKWELL_CLIENT:
        return BACKENDS["_native_cudnn"]
    if capability < HOPPER and "flash_attn" in packages:
        return BACKENDS["flash"]
    return BACKENDS["native"]


def _checked(asked: str, capability: Capability | None, packages: Collection[str], is_half: bool) -> Backend:
    backend = BACKENDS.get(asked)
    if backend is None:
        raise ValueError(f"There is no attention back end {asked!r}; there are {', '.join(BACKENDS)}.")
    if backend.package is not None and backend.package not in packages:
        raise ValueError(f"The attention back end {asked} needs the package {backend.package}, which is not installed.")
    if backend.least is not None and (capability is None or capability < backend.least):
        there = "the device has none" if capability is None else f"the device has {capability[0]}.{capability[1]}"
        raise ValueError(
            f"The attention back end {asked} needs CUDA capability {backend.least[0]}.{backend.least[1]}; {there}."
        )
    if backend.least is not None and not is_half:
        raise ValueError(f"The attention back end {asked} computes in 16 bits; the network is float32.")
    return backend
