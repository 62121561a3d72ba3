# One image for API, workers and repair; docker-compose.yml says which of them a container is.

FROM python:3.11.14-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
# packages before code: a change of the code alone installs none of them again
COPY requirements.lock ./
COPY deploy/requirements.in deploy/runtime_lock.py ./deploy/
RUN python -m venv /opt/everstep \
    && python deploy/runtime_lock.py > /tmp/runtime.lock \
    && /opt/everstep/bin/pip install --no-deps --require-hashes -r /tmp/runtime.lock
COPY pyproject.toml README.md LICENSE worker.py ./
COPY engine ./engine
COPY workflows ./workflows
COPY activities ./activities
RUN /opt/everstep/bin/pip install --no-deps --no-build-isolation .

FROM python:3.11.14-slim-bookworm
RUN groupadd --system --gid 10001 everstep \
    && useradd --system --uid 10001 --gid everstep --home-dir /var/lib/everstep --shell /usr/sbin/nologin everstep \
    && install --directory --owner=everstep --group=everstep --mode=0700 /var/lib/everstep \
    && install --directory /etc/everstep
COPY --from=build /opt/everstep /opt/everstep
ENV PATH=/opt/everstep/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    EVERSTEP_DATA_DIR=/var/lib/everstep \
    EVERSTEP_PROJECT_FILE=/etc/everstep/everstep.toml \
    EVERSTEP_HOST=0.0.0.0 \
    EVERSTEP_PORT=8700 \
    EVERSTEP_LOG_JSON=true
# a number, so that an orchestrator can see that it is not root
USER 10001:10001
WORKDIR /var/lib/everstep
VOLUME ["/var/lib/everstep"]
EXPOSE 8700
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8700/healthz', timeout=3)"]
CMD ["everstep", "serve"]
