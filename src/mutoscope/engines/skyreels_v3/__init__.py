"""SkyReels-V3 Reference-to-Video, exactly, on today's library classes. The journey, file by file:

spec.py          what the model is, in numbers; our options (imports no torch; nor does this page)
checkpoint.py    a folder → networks, or a refusal that says what was found
loading.py       weight files → tensors where they are to lie
text.py          prompt → token ids → embeddings
conditioning.py  pictures and a seed → reference latents and noise
numerics.py      where attention rounds: strict or fast
sampling.py      schedule, forward pass, guidance, and the loop over them → latents
decoding.py      latents → frames, one latent frame at a time
cache.py         embeddings and posteriors that were computed before
previewing.py    latents halfway → a look at what they become
pipeline.py      all of it in order, as events
building.py      checkpoint + plan → networks ready to render, in this process or in several
engine.py        the engine of the contract: events → Steps and Frames

And what a machine needs for it:

cost.py          operations, in closed form (no torch)
memory.py        bytes, by what is kept on the device (no torch)
placement.py     which part lies where, planned before anything is loaded (no torch)
offload.py       a placement, carried out
attention.py     the attention kernel for a device (no torch)
parallel.py      one pass over several devices: Ulysses
relay.py         one decode over several devices, in time order
crew.py          the processes of several devices, from start to end
"""
