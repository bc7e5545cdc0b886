# Two stages: tsc in the first, nothing but the product and its dependencies in the second.
FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci
COPY tsconfig.json tsconfig.build.json ./
COPY src src
RUN npm run build && npm prune --omit=dev

FROM node:24-bookworm-slim
WORKDIR /app
ENV NODE_ENV=production
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
RUN mkdir /audit && chown node:node /audit
USER node
VOLUME /audit
EXPOSE 8300 8302
ENTRYPOINT ["node", "dist/cli/stepgate.js"]
CMD ["serve", "--config", "/config/stepgate.yaml", "--policy", "/config/policy.yaml"]
