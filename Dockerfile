# roadmap on the CUDA runtime. This image has not been built or run yet.
#   docker build --tag roadmap .
#   docker run --gpus all --shm-size 16g --volume "$PWD/runs:/work/runs" roadmap run regime=nano data=digits
FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04

# g++ and Python's headers are for compile=true
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ git python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY conf conf
COPY roadmap roadmap
RUN python3 -m venv /opt/venv && pip install --constraint constraints.txt '.[wandb,timm]'

WORKDIR /work
ENTRYPOINT ["roadmap"]
