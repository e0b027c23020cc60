"""How suffixes are laid out in a row, and what attention cannot be packed; test_chat_model.py has the numbers."""

import pytest

from detector.packed_rows import PackedRow, UnpackableAttention, cut_to_budget, packed_attention


def test_attention_sinks_and_soft_caps_are_refused():
    for name in ("softcap", "s_aux"):
        with pytest.raises(UnpackableAttention, match=name):
            packed_attention(None, None, None, None, None, packed_row=PackedRow([], 0, []), **{name: 1.0})


def test_rows_keep_order_and_budget():
    suffixes = [[1] * 30, [2] * 30, [3] * 100, [4] * 5]
    rows = cut_to_budget(suffixes, 64)
    assert [suffix for row in rows for suffix in row] == suffixes
    assert [len(row) for row in rows] == [2, 1, 1]
    assert cut_to_budget([], 64) == []


def test_a_layer_that_attends_by_itself_is_counted():
    row = PackedRow([], 0, [])
    row.attended.update((0, 2))
    row.refuse_layers_of_their_own(2)
    with pytest.raises(UnpackableAttention, match="1 of its 3 layers have attention of their own"):
        row.refuse_layers_of_their_own(3)
