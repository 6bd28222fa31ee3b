"""Filming cutouts as a direction asks: composition, camera, light, weather and the frames themselves.

Knows nothing of networks, files, tasks or encoders; in come Cutouts, a Direction, a size, a frame count and a seed.

The journey of a shot: casting (who shares it) → camera (how it moves) → framing (where each stands, so that nothing is
cut) → backdrop, layers, shadow (the pictures, baked once) → light, weather → renderer (frames) → edit (shots joined).
"""
