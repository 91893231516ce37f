import pytest

from dynapilco.core.errors import UserError
from dynapilco.tracking.wandb_options import WandbOptions


@pytest.mark.parametrize(
    ("environ", "mode"),
    [
        ({"WANDB_MODE": "disabled", "WANDB_API_KEY": "x"}, "disabled"),
        ({"WANDB_MODE": "dryrun"}, "offline"),
        ({"WANDB_API_KEY": "x"}, "online"),
        ({"NETRC": "{folder}/netrc"}, "online"),
        ({"NETRC": "{folder}/netrc", "WANDB_BASE_URL": "https://other.example"}, "offline"),
        ({"NETRC": "{folder}/nothing"}, "offline"),
    ],
)
def test_mode(tmp_path, environ, mode):
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password not-a-key\n")
    environ = {k: v.format(folder=tmp_path) for k, v in environ.items()}
    assert WandbOptions().mode_in(environ) == mode
    assert WandbOptions(mode="offline").mode_in(environ) == "offline"


def test_a_mode_in_the_environment_that_is_none():
    with pytest.raises(UserError, match="unknown WANDB_MODE 'onlin': did you mean online"):
        WandbOptions().mode_in({"WANDB_MODE": "onlin"})


def test_project():
    assert WandbOptions().project_in({}) == "dynapilco"
    assert WandbOptions().project_in({"WANDB_PROJECT": "theirs"}) == "theirs"
    assert WandbOptions(project="mine").project_in({"WANDB_PROJECT": "theirs"}) == "mine"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "onlin"}, "unknown wandb_mode 'onlin': did you mean online"),
        ({"project": ""}, "wandb_project='': expected a text of 1 to 128 characters"),
        ({"project": "a/b"}, "wandb_project='a/b': expected a name without /"),
        ({"project": "x" * 129}, "expected a text of 1 to 128 characters"),
        ({"project": 3}, "wandb_project=3: expected a text"),
        ({"entity": " "}, "wandb_entity=' ': expected a text"),
        ({"tags": "one"}, "wandb_tags='one': expected a list of texts"),
        ({"tags": ["ok", 3]}, "wandb_tags=3: expected a text of 1 to 64 characters"),
        ({"tags": ["x" * 65]}, "expected a text of 1 to 64 characters"),
    ],
)
def test_what_cannot_be_meant(options, said):
    with pytest.raises(UserError) as error:
        WandbOptions(**options)
    assert said in str(error.value)
