"""From a prompt to what the network reads: cleaned text → token ids → embeddings.

Knows nothing of pictures or of the network that reads the embeddings.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

import ftfy
import torch
from tokenizers import Tokenizer
from torch import Tensor

from mutoscope.engines.skyreels_v3.spec import TEXT_TOKENS
from mutoscope.tasks import InvalidRequestError


def clean(prompt: str) -> str:
    """The prompt as the model was trained to see it: encoding mended, entities resolved (twice), white space single."""
    mended = html.unescape(html.unescape(ftfy.fix_text(prompt)))
    return re.sub(r"\s+", " ", mended).strip()


def token_ids(tokenizer: Tokenizer, cleaned: str) -> list[int]:
    """Token ids, the end-of-text token last. Raises InvalidRequestError when they are more than the model reads."""
    ids: list[int] = tokenizer.encode(cleaned).ids
    if len(ids) > TEXT_TOKENS:
        raise InvalidRequestError(
            f"The prompt is {len(ids)} tokens long; the model reads {TEXT_TOKENS}. Shorten it by about "
            f"{100 * (len(ids) - TEXT_TOKENS) // len(ids) + 1} %."
        )
    return ids


def embed(encoder: Any, ids: Sequence[int], rows: int = TEXT_TOKENS) -> Tensor:
    """UMT5's embeddings of `ids`, and zeros after them: (1, rows, text_dim) in the encoder's precision."""
    count = len(ids)
    padded = torch.zeros((1, rows), dtype=torch.long)
    padded[0, :count] = torch.tensor(ids)
    mask = (torch.arange(rows) < count).long().unsqueeze(0)
    device = encoder.device
    rows_of_text = encoder(padded.to(device), mask.to(device)).last_hidden_state  # (1, rows, text_dim)
    embeddings = torch.zeros_like(rows_of_text)
    embeddings[:, :count] = rows_of_text[:, :count]
    return embeddings
