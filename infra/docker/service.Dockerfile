# One image per service: docker build -f infra/docker/service.Dockerfile --build-arg SERVICE=groups . It holds
# services/shared, one service and that service's locked packages, and nothing of the other services.
# infra/docker/check.sh runs these lines without Docker. The base image is named by tag: pin the digest of
# your registry.

FROM python:3.13-slim-bookworm AS packages
ARG SERVICE
COPY infra/docker/requirements/${SERVICE}.lock /venv/requirements.lock
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r /venv/requirements.lock \
 && /venv/bin/pip uninstall --quiet --yes setuptools pip

FROM python:3.13-slim-bookworm AS common
# A running container never installs packages, so it has no tool that could.
RUN rm -r /usr/local/lib/python3.13/site-packages/pip* /usr/local/lib/python3.13/ensurepip /usr/local/bin/pip*
WORKDIR /app
COPY --from=packages /venv /venv
COPY services/__init__.py /app/services/__init__.py
COPY services/shared /app/services/shared
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# A user id without an entry in /etc/passwd: no shell, no home, and Kubernetes can verify that it is not root.
USER 10001:10001

# The jobs that set up the stores (`-m infra.kafka topics`, `-m infra.kafka acls`, `-m infra.mongo users`):
# --target topics --build-arg SERVICE=topics
FROM common AS topics
COPY infra/__init__.py /app/infra/__init__.py
COPY infra/kafka /app/infra/kafka
COPY infra/mongo /app/infra/mongo
ENTRYPOINT ["python", "-m", "infra.kafka"]

FROM common AS service
ARG SERVICE
COPY services/${SERVICE} /app/services/${SERVICE}
ENV SERVICE=${SERVICE} SANGATHAN_HTTP_HOST=0.0.0.0 SANGATHAN_HTTP_PORT=8000
EXPOSE 8000
CMD ["sh", "-c", "exec python -m services.$SERVICE"]
