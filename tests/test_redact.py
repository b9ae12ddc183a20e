"""What is stored or shown names no person and holds no secret."""

from xautolm_hpc.redact import redact, secrets_in


def test_secrets_are_the_values_of_variables_whose_names_say_so() -> None:
    environ = {
        "HF_TOKEN": "hf_abcdef",
        "AWS_ACCESS_KEY_ID": "AKIA1234",
        "Db_Password": "s3cret-longest",
        "TOKENIZERS_PARALLELISM": "false",
        "PATH": "/usr/bin:/bin",
    }

    secrets = secrets_in(environ)

    assert secrets == ("s3cret-longest", "hf_abcdef", "AKIA1234")


def test_a_secret_goes_also_inside_a_longer_word() -> None:
    text = redact("GET https://x/?t=hf_abcdef9", ("hf_abc", "hf_abcdef"), user="", host="", home="")

    assert text == "GET https://x/?t=<SECRET>9"


def test_home_host_and_user_are_replaced() -> None:
    text = redact(
        'File "/home/ada/run.py" on node7.site.org (node7) of ada',
        (),
        user="ada",
        host="node7.site.org",
        home="/home/ada/",
    )

    assert text == 'File "<HOME>/run.py" on <HOST> (<HOST>) of <USER>'


def test_a_name_inside_another_word_stays() -> None:
    text = redact("adam went to node77, /home/adam and ada-2", (), user="ada", host="node7", home="/home/ada")

    assert text == "adam went to node77, /home/adam and ada-2"


def test_nothing_known_replaces_nothing() -> None:
    text = redact("/a/b c", (), user="", host="", home="/")

    assert text == "/a/b c"
