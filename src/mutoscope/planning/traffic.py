"""What a number of clips a day puts on the database, the files and the network.

Counts the writes that `worker` and `store` make for one task. Sizes of files are assumptions with names, to be replaced
by measured ones.
"""

from __future__ import annotations

from dataclasses import dataclass

_BITS_PER_PIXEL = 0.10  # of an mp4 at the quality that `video` asks for; assumed (5 s of 720p: 1.4 MB)
_POSTER_BYTES = 120_000  # assumed
_REFERENCE_BYTES = 1_500_000  # of one upload; assumed
_PROGRESS_SECONDS = 1.0  # between two notes of progress within a step
_DECODING_SECONDS = 0.25  # between two notes while frames arrive
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Traffic:
    """The load of one installation, on average over a day. Bytes are decimal when told as GB and TB.

    `writes_per_second` are transactions of the database; `polls_per_second` are its reads by callers who wait.
    `stored_bytes` is what lies there once the first outputs have reached the end of their retention.
    """

    clips_per_day: float
    writes_per_clip: float
    writes_per_second: float
    polls_per_second: float
    clip_bytes: int
    stored_bytes: int
    ingress_per_day: int
    egress_per_day: int
    egress_bits_per_second: float


def traffic(
    clips_per_day: float,
    *,
    pixels_per_clip: int,
    references: int,
    steps: int,
    denoise_seconds: float,
    decode_seconds: float,
    waiting_seconds: float,
    retention_days: float = 7,
    downloads: float = 1,
    lease_seconds: float = 15,
    poll_seconds: float = 2,
) -> Traffic:
    """What `clips_per_day` of one kind amount to; each is downloaded `downloads` times and polled until it is done.

    `waiting_seconds` is the wait for a worker; the other times are as predicted for the clip.
    """
    running = denoise_seconds + decode_seconds
    writes = (
        3  # add, claim, succeed
        + references
        + 2  # the prompt is read, the model is there
        + steps
        + denoise_seconds / _PROGRESS_SECONDS
        + decode_seconds / _DECODING_SECONDS
        + running / (lease_seconds / 3)  # renewals
    )
    clip = int(pixels_per_clip * _BITS_PER_PIXEL / 8)
    uploads = references * _REFERENCE_BYTES
    egress = clips_per_day * downloads * (clip + _POSTER_BYTES)
    return Traffic(
        clips_per_day=clips_per_day,
        writes_per_clip=writes,
        writes_per_second=clips_per_day * writes / _DAY,
        polls_per_second=clips_per_day * (waiting_seconds + running) / poll_seconds / _DAY,
        clip_bytes=clip,
        stored_bytes=int(clips_per_day * retention_days * (clip + _POSTER_BYTES + uploads)),
        ingress_per_day=int(clips_per_day * uploads),
        egress_per_day=int(egress),
        egress_bits_per_second=egress * 8 / _DAY,
    )
