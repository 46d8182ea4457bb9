"""The console of a deployed stack in a browser.

ministack runs the programs of the ordinary build behind the routes and the authorizer of the template, which this
step creates: ministack ignores the OpenAPI document that SAM makes of them. tests/console/deployed.test.mjs is the
user in Chromium, and the issuer at which the user signs in.
"""

import datetime
import ipaddress
import os
import shutil
import zipfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .ministack_run import Cloud, deploy, parameters, physical
from .template import parsed
from .tools import Receiver, expect, free_port

CLIENT = "console"


def check(space):
    if not shutil.which("node"):
        print("NOT CHECKED: the console needs Node.js")
        return
    chromium = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
    expect(chromium.exists(), f"there is no {chromium}: tests/console/run.sh installs it")
    tests = space.root / "tests/console"
    if not (tests / "node_modules/playwright-core").exists():
        space.run("npm", "ci", "--silent", "--prefix", tests)
    # All of the workspace, so that cargo does not build with other features than in `.ci/run`.
    space.run("cargo", "build", "--workspace", "--bins", "--locked")
    certificate = self_signed(space.work / "issuer.pem")
    issuer = f"https://localhost:{free_port()}"
    # The authorizer fetches the keys of the issuer.
    cloud = Cloud(space, SSL_CERT_FILE=str(certificate))
    deploy(space, cloud, lambda function: package(space, function), JwtIssuer=issuer, ConsoleClientId=CLIENT)
    resources = physical(cloud)
    routes = create_routes(space, cloud, resources, issuer)
    print(f"{routes} routes of the template are created")
    port = cloud.url.rpartition(":")[2]
    receiver = Receiver()
    output = space.run(
        *("node", "--test", "--test-reporter=spec", tests / "deployed.test.mjs"),
        env={
            **space.env,
            "API": f"http://{resources['Api']}.execute-api.localhost:{port}",
            "AUDIENCE": parameters(space)["JwtAudience"],
            "CERTIFICATE": str(certificate),
            "CLIENT": CLIENT,
            "ISSUER": issuer,
            "QUEUE_URL": resources["EventsQueue"],
            "RECEIVER": receiver.url,
            "SQS": cloud.url,
        },
    )
    print(output.rstrip())
    expect(receiver.requests, "nothing reached the receiver")
    space.stop(cloud.process)


def package(space, function):
    """The program of the ordinary build as a package."""
    path = space.work / f"{function}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.write(space.target / "debug" / function, "bootstrap")
    return path


def create_routes(space, cloud, resources, issuer):
    """Creates the authorizer and each route of the template, and returns the number of routes."""
    gateway, api = cloud.client("apigatewayv2"), resources["Api"]
    jwt = parsed(space)["Resources"]["Api"]["Properties"]["Auth"]["Authorizers"]["Jwt"]
    authorizer = gateway.create_authorizer(
        ApiId=api,
        AuthorizerType="JWT",
        IdentitySource=[jwt["IdentitySource"]],
        JwtConfiguration={"Issuer": issuer, "Audience": [parameters(space)["JwtAudience"]]},
        Name="Jwt",
    )["AuthorizerId"]
    count = 0
    for name, resource in parsed(space)["Resources"].items():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        properties = resource["Properties"]
        events = [e["Properties"] for e in properties["Events"].values() if e["Type"] == "HttpApi"]
        if not events:
            continue
        arn = cloud.client("lambda").get_function(FunctionName=resources[name])["Configuration"]["FunctionArn"]
        alias = properties.get("AutoPublishAlias")
        integration = gateway.create_integration(
            ApiId=api,
            IntegrationType="AWS_PROXY",
            IntegrationUri=f"{arn}:{alias}" if alias else arn,
            PayloadFormatVersion="2.0",
        )["IntegrationId"]
        for event in events:
            is_public = event.get("Auth", {}).get("Authorizer") == "NONE"
            checks = {} if is_public else {"AuthorizationType": "JWT", "AuthorizerId": authorizer}
            gateway.create_route(
                ApiId=api,
                RouteKey=f"{event['Method']} {event['Path']}",
                Target=f"integrations/{integration}",
                **checks,
            )
            count += 1
    return count


def self_signed(path):
    """A key and its certificate for localhost, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(encoding)
    )
    return path
