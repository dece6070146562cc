"""Secrets in settings: values are masked by the setting's name, and names that only sound alike stay readable."""

from __future__ import annotations

import pytest

from pytest_torchserve._util import mask
from pytest_torchserve.torchserve import supervisor

SECRET = """
API_KEY apiKey apikey MYAPIKEY x-api-key KEY key1 HF_TOKEN GITHUB_TOKEN_2 authToken AUTHTOKEN TOKEN tokens API_TOKENS
AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID AWS_SESSION_TOKEN SECRET clientSecret DJANGO_SECRETKEY DB_PASS DB_PASS1 SSHPASS
keystore_pass KEYSTOREPASS PGPASSWORD MYSQL_PWD password dbpassword RABBITMQ_DEFAULT_PASSWORD MY_PASSWD passphrase
SSL_KEY_PASSPHRASE CREDENTIAL AWS_CREDENTIALS GOOGLE_APPLICATION_CREDENTIALS AUTH BASIC_AUTH OAUTH X_AUTHORIZATION
PRIVATE_KEY PRIVATE DB_CREDS db.pw
javax.net.ssl.keyStorePassword SLACK_WEBHOOK_URL JWT GITHUB_PAT SESSION_COOKIE PassWord APIKey
"""
OPEN = """
KMP_AFFINITY TOKENIZERS_PARALLELISM PASSIVE OMP_WAIT_POLICY KEYBOARD MONKEY TURKEY PROXY_BYPASS COMPASS PWD OLDPWD
AUTHOR GIT_AUTHOR_NAME XAUTHORITY PRIVATEER OMP_NUM_THREADS PATH PYTHONPATH PATTERN MAX_TOKENS MAX_NEW_TOKENS
NUM_KEYS token_expiration_min disable_token_authorization private_key_file API_KEY_FILE keystore keystore_type
PASSENGERS PYTHONHASHSEED number_of_netty_threads vmargs models TOKENIZER DETOKENIZE
"""


@pytest.mark.parametrize("name", SECRET.split())
def test_secret_names(name):
    """The value of a setting with a secret's name is masked, however the name is written."""
    assert mask.value(name, "hunter2") == mask.MASK


@pytest.mark.parametrize("name", OPEN.split())
def test_names_that_only_sound_alike(name):
    """A setting that affects speed stays readable, although its name resembles a secret's."""
    assert mask.value(name, "hunter2") == "hunter2"


@pytest.mark.parametrize("text", ["true", "False", "off", ""])
def test_a_switch_is_no_secret(text):
    """The value of a switch is shown: it only says whether there is authorisation."""
    assert mask.value("USE_AUTH", text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://me:hunter2@db.example:5432/x", "postgres://***@db.example:5432/x"),
        ("postgres://me:hun@ter2@db/x", "postgres://***@db/x"),
        ("https://hunter2@git.example/x.git", "https://***@git.example/x.git"),
        ("https://example/a?token=hunter2&size=4", "https://example/a?token=***&size=4"),
        ("-Xmx1g -Djavax.net.ssl.keyStorePassword=hunter2 -Da=b", "-Xmx1g -Djavax.net.ssl.keyStorePassword=*** -Da=b"),
        ("-Dkey=hunter2", "-Dkey=***"),
        ("-Ddb.password=hunter2&more,of;it -Da=b,c", "-Ddb.password=*** -Da=b,c"),
        ("postgres://me:hun/ter2@db/x", "postgres://***@db/x"),
        ("-H 'Authorization: Bearer hunter2'", "-H 'Authorization: Bearer ***'"),
        ("host=db password='hunter 2' user=me", "host=db password=*** user=me"),
        ("AccountName=me;AccountKey=hunter2==;Size=4", "AccountName=me;AccountKey=***;Size=4"),
        ('{"apiKey": "hunter2", "size": 4}', '{"apiKey": ***, "size": 4}'),
        ("granularity=fine,compact,1,0", "granularity=fine,compact,1,0"),
        ("/opt/key:/opt/lib", "/opt/key:/opt/lib"),
        ("max_split_size_mb:128", "max_split_size_mb:128"),
    ],
)
def test_secrets_inside_a_value(text, shown):
    """Only the secret inside a value is masked where the setting's name marks no secret."""
    assert mask.value("ANYTHING", text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("MY-TOKEN=hunter2", "MY-TOKEN=***"),
        ("HF_TOKEN:hunter2", "HF_TOKEN:***"),
        ("HF_TOKEN hunter2", "HF_TOKEN ***"),
        ("1X=2", "1X=2"),
        ("=https://me:hunter2@host", "=https://***@host"),
        ("", ""),
    ],
)
def test_a_pair_of_the_wrong_form(text, shown):
    """A malformed NAME=VALUE is shown without its value where its name is recognisable as a secret's."""
    assert mask.pair(text) == shown


@pytest.mark.parametrize(
    "line",
    [
        "Picked up JAVA_TOOL_OPTIONS: -Dapi.key=hunter2",
        "Warning: TorchServe is using non-default JVM parameters: -Dapi.key=hunter2 -Xmx1g",
        "jvm_args: -Dapi.key=hunter2",
        "Command Line: -Dapi.key=hunter2 org.pytorch.serve.ModelServer",
        "JAVA_TOOL_OPTIONS=-Dapi.key=hunter2",
    ],
)
def test_options_that_a_jvm_repeats(line):
    """The JVM's options are masked on the terminal, and by the supervisor in files; both use one pattern."""
    assert "hunter2" not in mask.echoes(f"before\n{line}\nafter")
    assert mask.echoes(f"before\n{line}\nafter").splitlines()[::2] == ["before", "after"]
    assert mask._ECHO.pattern.encode() == supervisor._ECHO.pattern
