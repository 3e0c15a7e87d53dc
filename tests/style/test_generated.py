from tests.style.generated import generated


def test_what_was_generated_is_what_comes_out_now(tmp_path):
    for place, made in generated(tmp_path).items():
        assert place.read_text() == made.read_text(), f"{place}: scripts/generate"
