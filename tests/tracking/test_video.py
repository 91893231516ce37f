import imageio.v3 as iio
import numpy as np
import pytest

from dynapilco.tracking import video
from dynapilco.tracking.video import write_video


def frames(count, height=32, width=48):
    return [np.full((height, width, 3), 20 * i, np.uint8) for i in range(count)]


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47)])
def test_mp4_holds_all_frames_at_the_right_rate(tmp_path, height, width):
    path = write_video(tmp_path / "videos" / "a.mp4", frames(7, height, width), dt=0.05)
    assert path == tmp_path / "videos" / "a.mp4"
    found = iio.imread(path, plugin="pyav")
    assert found.shape == (7, height + height % 2, width + width % 2, 3)
    assert abs(int(found[5].mean()) - 100) < 6
    assert iio.immeta(path, plugin="pyav")["fps"] == 20
    assert [p.name for p in path.parent.iterdir()] == ["a.mp4"]


def test_gif_and_a_message_where_the_encoder_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "ENCODER", "no-such-encoder")
    said = []
    path = write_video(tmp_path / "a.mp4", frames(5), dt=0.1, message=said.append)
    assert path == tmp_path / "a.gif"
    assert len(iio.imread(path, index=None)) == 5
    assert len(said) == 1
    assert "a.gif" in said[0]
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]
